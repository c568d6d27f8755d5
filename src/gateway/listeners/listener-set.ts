import type { Logger } from '../../observability/index.ts'
import { abortable, TimeLimit } from '../../runtime/index.ts'
import type { ListenerPlan } from '../routing/route-table.ts'
import type { ConnectionSurroundings } from './connection.ts'
import { GatewayListener, type ListenerPlans, type ListenerStatus } from './gateway-listener.ts'
import { everyAddress } from './listen-addresses.ts'

/** What listeners are made with. */
export interface ListenerSetOptions {
  readonly surroundings: ConnectionSurroundings
  readonly maxConnections: number
  /** How long connections of a listener that is not wanted any more may go on. */
  readonly drainTimeoutMs: number
  readonly logger: Logger
}

/** The listeners of a gateway; they converge to what is wanted, and those that stay are not touched. */
export class ListenerSet implements AsyncDisposable {
  readonly #options: ListenerSetOptions
  readonly #listeners = new Map<string, GatewayListener>()
  readonly #leaving = new Set<Promise<void>>()
  readonly #stopped = new AbortController()
  #isDraining = false

  constructor(options: ListenerSetOptions) {
    this.#options = options
  }

  status(): readonly ListenerStatus[] {
    return [...this.#listeners.values()].map((listener) => listener.status)
  }

  /** Makes these plans listen on these addresses. */
  set(plans: readonly ListenerPlan[], addresses: readonly string[]): void {
    if (this.#isDraining) return
    const wanted = wantedListeners(plans, addresses)
    for (const [key, listener] of this.#listeners) {
      if (wanted.has(key)) continue
      this.#listeners.delete(key)
      this.#retire(listener)
    }
    for (const [key, { address, plans: next }] of wanted) {
      const known = this.#listeners.get(key)
      if (known === undefined) {
        const { surroundings, maxConnections, logger } = this.#options
        this.#listeners.set(
          key,
          new GatewayListener({ address, port: next.usual.port, surroundings, maxConnections, logger }, next),
        )
      } else known.setPlans(next)
    }
  }

  /** Ends everything in order; resolves when nothing is left or the signal aborts. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#isDraining = true
    const leaving = abortable(Promise.all(this.#leaving), signal).catch(() => {})
    await Promise.all([...this.#listeners.values()].map((listener) => listener.drain(signal)))
    await leaving
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isDraining = true
    this.#stopped.abort()
    await Promise.all([...this.#listeners.values()].map((listener) => listener[Symbol.asyncDispose]()))
    await Promise.all(this.#leaving)
  }

  /** The port is free at once; what is under way may finish. */
  #retire(listener: GatewayListener): void {
    const leaving = this.#drainAndEnd(listener).finally(() => this.#leaving.delete(leaving))
    this.#leaving.add(leaving)
  }

  async #drainAndEnd(listener: GatewayListener): Promise<void> {
    using limit = new TimeLimit(this.#options.drainTimeoutMs, this.#stopped.signal)
    await listener.drain(limit.signal)
    await listener[Symbol.asyncDispose]()
  }
}

interface WantedListener {
  readonly address: string
  readonly plans: ListenerPlans
}

/**
 * By address and port. A server with an address of its own takes it from those that listen on all; where those listen
 * on the address that stands for all, one socket serves both, because the kernel allows no second one.
 */
function wantedListeners(
  plans: readonly ListenerPlan[],
  addresses: readonly string[],
): ReadonlyMap<string, WantedListener> {
  const wanted = new Map<string, WantedListener>()
  const isGeneral = ({ bind }: ListenerPlan) => bind === undefined || bind === everyAddress
  for (const plan of plans.filter(isGeneral)) {
    for (const address of addresses)
      wanted.set(`${address}|${plan.port}`, { address, plans: { usual: plan, own: new Map() } })
  }
  for (const plan of plans) {
    if (plan.bind === undefined || isGeneral(plan)) continue
    const { bind, port } = plan
    const everywhere = bind.includes(':') ? undefined : wanted.get(`${everyAddress}|${port}`)
    if (everywhere === undefined)
      wanted.set(`${bind}|${port}`, { address: bind, plans: { usual: plan, own: new Map() } })
    else {
      const own = new Map(everywhere.plans.own).set(bind, plan)
      wanted.set(`${everyAddress}|${port}`, { address: everyAddress, plans: { ...everywhere.plans, own } })
    }
  }
  return wanted
}
