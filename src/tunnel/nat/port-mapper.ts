import type { SocketAddress } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { type BackoffPolicy, backoffDelayMs, sleep, TimeLimit } from '../../runtime/index.ts'
import type { Router } from './ask-router.ts'
import type { MappingGrant } from './port-control.ts'

/** What keeping a port open needs. */
export interface PortMapperOptions {
  /** Routers that may be asked now, likeliest first; none while this node has no NAT in front of it. */
  routers(): readonly Router[]
  /** Differs whenever asking again makes sense at once: other networks, routers or servers. */
  situation(): string
  /** Our listening port. */
  readonly port: number
  /** Dials this node from outside at that port; rejects when it is not reached. */
  confirm(port: number, signal: AbortSignal): Promise<SocketAddress>
  readonly logger: Logger
  readonly random?: () => number
  /** Default `sleep`. */
  readonly pause?: typeof sleep
}

/** Renewed after half of it; a router that was restarted has its port back after that at the latest. */
const lifetimeSeconds = 3600

/** A router may grant hardly anything, and would be asked all the time. */
const shortestMs = 60_000
const longestMs = 1_800_000

/** How soon a new situation is noticed. */
const lookMs = 2000

/** Most routers do not speak these protocols, and never will. */
const retryPolicy: BackoffPolicy = {
  firstMs: 15_000,
  maxMs: 600_000,
  jitter: 0.3,
  patience: { afterAttempts: 10, maxMs: 6 * 3_600_000 },
}
const releaseMs = 1000

/** Has the router in front of this node open a port for its listening port, and takes it back at the end. */
export class PortMapper {
  readonly #options: PortMapperOptions
  #mapped: SocketAddress | undefined
  #held: { readonly router: Router; readonly grant: MappingGrant } | undefined
  #lastError: string | undefined

  constructor(options: PortMapperOptions) {
    this.#options = options
  }

  /** Where peers outside reach this node; only once it was dialled there. */
  get mapped(): SocketAddress | undefined {
    return this.#mapped
  }

  /** The same for people, or why there is none. */
  status(): { readonly address?: string; readonly lastError?: string } {
    if (this.#mapped !== undefined) return { address: textOf(this.#mapped) }
    return this.#lastError === undefined ? {} : { lastError: this.#lastError }
  }

  /** Runs until the signal aborts, and then takes the mapping back. */
  async run(signal: AbortSignal): Promise<void> {
    let failures = 0
    while (!signal.aborted) {
      const situation = this.#options.situation()
      let delayMs = longestMs
      try {
        delayMs = await this.#renew(signal)
        failures = 0
      } catch (error) {
        if (signal.aborted) break
        failures += 1
        this.#lastError = describeError(error)
        this.#options.logger.debug({ error }, 'no port is open at the router')
        this.#lose()
        delayMs = backoffDelayMs(retryPolicy, failures, this.#options.random ?? Math.random)
      }
      if (await this.#rest(delayMs, situation, signal)) failures = 0
    }
    await this.#release()
  }

  /** True when the situation has changed meanwhile. */
  async #rest(durationMs: number, situation: string, signal: AbortSignal): Promise<boolean> {
    const { pause = sleep } = this.#options
    for (let restedMs = 0; restedMs < durationMs && !signal.aborted; restedMs += lookMs) {
      await pause(lookMs, signal).catch(() => {})
      if (this.#options.situation() !== situation) return true
    }
    return false
  }

  /** Asks the router that has given a port already, else all; resolves with when to ask again. */
  async #renew(signal: AbortSignal): Promise<number> {
    const { router, grant } = await this.#ask(signal)
    this.#held = { router, grant }
    const { externalPort, lifetimeSeconds: givenSeconds } = grant
    const mapped = await this.#options.confirm(externalPort, signal)
    if (textOf(mapped) !== textOf(this.#mapped)) {
      const { logger } = this.#options
      logger.info(
        { address: textOf(mapped), reason: `asked by ${router.protocol}` },
        'the router has opened a port for this node',
      )
    }
    this.#mapped = mapped
    return Math.min(longestMs, Math.max(shortestMs, givenSeconds * 500))
  }

  async #ask(signal: AbortSignal): Promise<{ readonly router: Router; readonly grant: MappingGrant }> {
    const { routers, port } = this.#options
    const failures: unknown[] = []
    const held = this.#held?.router
    // The others first would cost their whole patience each time.
    const known = [...routers()].sort((one, other) => Number(other === held) - Number(one === held))
    for (const router of known) {
      const externalPort = this.#held?.router === router ? this.#held.grant.externalPort : port
      try {
        const grant = await router.ask({ internalPort: port, externalPort, lifetimeSeconds }, signal)
        return { router, grant }
      } catch (error) {
        signal.throwIfAborted()
        failures.push(error)
      }
    }
    if (known.length === 0) throw new Error('no router is to be asked')
    throw new AggregateError(failures, 'no router opens a port')
  }

  #lose(): void {
    if (this.#mapped === undefined) return
    this.#options.logger.info({ address: textOf(this.#mapped) }, 'the port that the router had opened is gone')
    this.#mapped = undefined
  }

  async #release(): Promise<void> {
    this.#mapped = undefined
    if (this.#held === undefined) return
    const { router, grant } = this.#held
    using limit = new TimeLimit(releaseMs)
    const request = { internalPort: this.#options.port, externalPort: grant.externalPort, lifetimeSeconds: 0 }
    await router.ask(request, limit.signal).catch((error: unknown) => {
      this.#options.logger.debug({ error }, 'the router was not told that its port is not needed any more')
    })
  }
}

function textOf(address: SocketAddress | undefined): string {
  return address === undefined ? '' : `${address.address}:${address.port}`
}
