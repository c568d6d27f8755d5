import { type Backend, backendIdOf } from '../../model/index.ts'
import type { Logger } from '../../observability/index.ts'
import { backoffDelayMs, sleep, TaskGroup } from '../../runtime/index.ts'
import type { AskedPlace } from './questioner.ts'
import type { ReachedEndpoints } from './reached-endpoints.ts'

/** An address of endpoints on another node. */
export interface Place extends AskedPlace {
  readonly tcpPorts: ReadonlySet<number>
}

/** What is known of one place, for status. */
export interface PlaceStatus extends AskedPlace {
  /** Why it is reached through the tunnel; absent while it is reached directly. */
  readonly reason?: string
}

/** What confirming needs. */
export interface ConfirmationsOptions {
  /** Why a place need not be asked, by what is known here; undefined when it should be. */
  readonly reasonAgainst: (place: AskedPlace) => string | undefined
  /** The source addresses that must all get an answer; undefined is the one that the kernel chooses. */
  readonly sources: () => readonly (string | undefined)[]
  /** Why the address does not lead to the node, or undefined. */
  readonly ask: (place: AskedPlace, source: string | undefined, signal: AbortSignal) => Promise<string | undefined>
  /** Whether a TCP port there takes connections from this node. */
  readonly accepts: (address: string, port: number, signal: AbortSignal) => Promise<boolean>
  readonly onChange: () => void
  readonly logger: Logger
  /** A monotonic clock. */
  readonly nowMs: () => number
  /** Replaced in tests. */
  readonly sleep?: typeof sleep
}

/**
 * Knows which addresses on other nodes lead to these nodes and not to others that use the same address. Each is asked
 * again every few seconds, and at once when the network of this node changed; the first that fails takes it back.
 */
export interface Confirmations extends AsyncDisposable {
  readonly reached: ReachedEndpoints
  /** Replaces the places that matter; those known before stay as they are. */
  want(places: readonly Place[]): void
  /** The network changed: everything is asked again now. */
  askAgain(): void
  /** A connection to this endpoint failed: it is connected to at once, and taken back when that fails as well. */
  suspect(endpoint: Backend): void
  status(): readonly PlaceStatus[]
}

const confirmEveryMs = 2_000
/** Questions to all places together, so that thousands of endpoints cost no more. */
const questionsPerSecond = 100
const lookEveryMs = 1_000
const retry = { firstMs: 1_000, maxMs: 60_000, jitter: 0.2 }
const mostAtOnce = 32
const acceptTimeoutMs = 1_000

interface Entry {
  place: Place
  isConfirmed: boolean
  reason: string
  failures: number
  dueMs: number
  /** What is known of TCP ports; a closed one is asked again when due. */
  readonly ports: Map<number, { isOpen: boolean; failures: number; dueMs: number }>
}

/** Makes confirmations that ask nobody until places are wanted. */
export function createConfirmations(options: ConfirmationsOptions): Confirmations {
  return new RunningConfirmations(options)
}

class RunningConfirmations implements Confirmations {
  readonly #options: ConfirmationsOptions
  readonly #sleep: typeof sleep
  readonly #tasks: TaskGroup
  readonly #entries = new Map<string, Entry>()
  #reached: ReachedEndpoints & { readonly ids: ReadonlySet<string> } = reachedOf([])
  #wake: () => void = () => {}
  #isRunning = false
  /** Something may be reached that was not, or the other way round. */
  #isChanged = false

  constructor(options: ConfirmationsOptions) {
    this.#options = options
    this.#sleep = options.sleep ?? sleep
    this.#tasks = new TaskGroup((task, error) => options.logger.error({ task, error }, 'task failed'))
  }

  get reached(): ReachedEndpoints {
    return this.#reached
  }

  want(places: readonly Place[]): void {
    const wanted = new Map(places.map((place) => [idOf(place), place]))
    for (const id of this.#entries.keys()) if (!wanted.has(id)) this.#entries.delete(id)
    this.#isChanged = true
    for (const [id, place] of wanted) {
      const known = this.#entries.get(id)
      if (known === undefined) this.#entries.set(id, newEntry(place))
      else known.place = place
      for (const port of known?.ports.keys() ?? []) if (!place.tcpPorts.has(port)) known?.ports.delete(port)
    }
    this.#publish()
    if (wanted.size > 0) this.#run()
    this.#wake()
  }

  askAgain(): void {
    for (const entry of this.#entries.values()) Object.assign(entry, { dueMs: 0, failures: 0 })
    this.#wake()
  }

  suspect(endpoint: Backend): void {
    const entry = this.#entries.get(`${endpoint.nodeName}/${endpoint.address}`)
    const port = entry?.ports.get(endpoint.port)
    if (entry === undefined || port === undefined || !port.isOpen) return
    port.dueMs = 0
    entry.dueMs = 0
    this.#wake()
  }

  status(): readonly PlaceStatus[] {
    return [...this.#entries.values()].map(({ place: { nodeName, address }, isConfirmed, reason, ports }) => {
      const closed = [...ports].filter(([, { isOpen }]) => !isOpen).map(([port]) => port)
      const told = !isConfirmed ? reason : closed.length > 0 ? `no connection to port ${closed.join(', ')}` : undefined
      return { nodeName, address, ...(told !== undefined && { reason: told }) }
    })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
  }

  #run(): void {
    if (this.#isRunning) return
    this.#isRunning = true
    this.#tasks.run('confirmations', async (signal) => {
      while (this.#entries.size > 0) {
        await this.#round(signal)
        const woken = new AbortController()
        this.#wake = () => woken.abort()
        const restMs = Math.max(0, Math.min(lookEveryMs, this.#nextDueMs() - this.#options.nowMs()))
        await this.#sleep(restMs, AbortSignal.any([signal, woken.signal])).catch(() => signal.throwIfAborted())
      }
      this.#isRunning = false
    })
  }

  #nextDueMs(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { dueMs } of this.#entries.values()) next = Math.min(next, dueMs)
    return next
  }

  /** Looks at all that are due, some at a time. */
  async #round(signal: AbortSignal): Promise<void> {
    const now = this.#options.nowMs()
    const due = [...this.#entries.values()].filter((entry) => entry.dueMs <= now || this.#isOutdated(entry))
    const work = due.values()
    const worker = async () => {
      for (const entry of work) {
        await this.#look(entry, signal)
        this.#publish()
      }
    }
    await Promise.all(Array.from({ length: Math.min(mostAtOnce, due.length) }, worker))
  }

  /** What is known here speaks against it now, or does no more. */
  #isOutdated({ place, isConfirmed }: Entry): boolean {
    return isConfirmed && this.#options.reasonAgainst(place) !== undefined
  }

  async #look(entry: Entry, signal: AbortSignal): Promise<void> {
    const against = this.#options.reasonAgainst(entry.place)
    if (against !== undefined) {
      this.#setReason(entry, against)
      entry.dueMs = this.#options.nowMs() + lookEveryMs
      entry.failures = 0
      return
    }
    const failure = await this.#askFromAll(entry.place, signal)
    if (failure !== undefined) {
      // Where it was right until now a key may be gone, or a datagram lost: that shows soon.
      entry.failures = entry.isConfirmed ? 0 : entry.failures + 1
      this.#setReason(entry, failure)
      entry.dueMs = this.#options.nowMs() + backoffDelayMs(retry, Math.max(1, entry.failures), Math.random)
      return
    }
    await this.#lookAtPorts(entry, signal)
    const { nodeName, address } = entry.place
    if (!entry.isConfirmed) this.#options.logger.info({ node: nodeName, address }, 'an address leads to its node')
    this.#isChanged ||= !entry.isConfirmed
    entry.isConfirmed = true
    entry.failures = 0
    entry.dueMs = this.#options.nowMs() + this.#intervalMs()
  }

  async #askFromAll(place: Place, signal: AbortSignal): Promise<string | undefined> {
    const answers = await Promise.all(this.#options.sources().map((source) => this.#options.ask(place, source, signal)))
    return answers.find((failure) => failure !== undefined)
  }

  /** A firewall there may let questions through and nothing else; each port is connected to once. */
  async #lookAtPorts({ place, ports }: Entry, signal: AbortSignal): Promise<void> {
    const { nowMs, accepts } = this.#options
    const due = [...place.tcpPorts].filter((port) => (ports.get(port)?.dueMs ?? 0) <= nowMs())
    await Promise.all(
      due.map(async (port) => {
        const attempt = AbortSignal.any([signal, AbortSignal.timeout(acceptTimeoutMs)])
        const isOpen = await accepts(place.address, port, attempt)
        signal.throwIfAborted()
        const failures = isOpen ? 0 : (ports.get(port)?.failures ?? 0) + 1
        const delayMs = isOpen ? Number.POSITIVE_INFINITY : backoffDelayMs(retry, failures, Math.random)
        this.#isChanged ||= ports.get(port)?.isOpen !== isOpen
        ports.set(port, { isOpen, failures, dueMs: nowMs() + delayMs })
      }),
    )
  }

  #intervalMs(): number {
    const questions = this.#entries.size * this.#options.sources().length
    return Math.max(confirmEveryMs, (questions / questionsPerSecond) * 1_000)
  }

  #setReason(entry: Entry, reason: string): void {
    const { nodeName, address } = entry.place
    if (entry.isConfirmed) {
      this.#options.logger.warn({ node: nodeName, address, reason }, 'an address does not lead to its node any more')
    }
    this.#isChanged ||= entry.isConfirmed
    entry.isConfirmed = false
    entry.reason = reason
    // Who is confirmed again is connected to again.
    entry.ports.clear()
  }

  #publish(): void {
    if (!this.#isChanged) return
    this.#isChanged = false
    const reached = reachedOf(this.#entries.values())
    const { ids } = this.#reached
    if (ids.size === reached.ids.size && [...ids].every((id) => reached.ids.has(id))) return
    this.#reached = reached
    this.#options.onChange()
  }
}

const idOf = ({ nodeName, address }: AskedPlace): string => `${nodeName}/${address}`

function newEntry(place: Place): Entry {
  return { place, isConfirmed: false, reason: 'not asked yet', failures: 0, dueMs: 0, ports: new Map() }
}

function reachedOf(entries: Iterable<Entry>): ReachedEndpoints & { readonly ids: ReadonlySet<string> } {
  const ids = new Set<string>()
  // Asked about every endpoint there is, of which few are reached.
  const addresses = new Set<string>()
  for (const { place, isConfirmed, ports } of entries) {
    if (!isConfirmed) continue
    addresses.add(place.address)
    ids.add(idOf(place))
    for (const [port, { isOpen }] of ports) if (isOpen) ids.add(`${idOf(place)}:${port}`)
  }
  return {
    ids,
    has(endpoint, protocol) {
      if (!addresses.has(endpoint.address)) return false
      return ids.has(protocol === 'tcp' ? backendIdOf(endpoint) : `${endpoint.nodeName}/${endpoint.address}`)
    },
  }
}
