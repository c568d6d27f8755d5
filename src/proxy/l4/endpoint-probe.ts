import { type Backend, backendIdOf } from '../../model/index.ts'
import { type ByteStream, DialError, type Dialer, type DialTarget, resetStream } from '../../net/index.ts'
import { createLoggedTasks, type Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'

/** What the probe needs. */
export interface EndpointProbeOptions {
  /** Dials endpoints that this node reaches itself. */
  readonly dialer: Dialer
  readonly logger: Logger
  /** Called after the set of withdrawn endpoints changed. */
  readonly onChange: () => void
  /** Replaced in tests. */
  readonly sleep?: typeof sleep
}

/**
 * Finds out whether endpoints to which the kernel sends packets by itself are still there. Nobody is connected to
 * without a reason: somebody has to suspect an endpoint first. One that does not accept is withdrawn, then asked again
 * until it accepts.
 */
export interface EndpointProbe extends AsyncDisposable {
  /** Ids (`backendIdOf`) of endpoints that should get no new connections; a new set whenever it changed. */
  readonly withdrawn: ReadonlySet<string>
  /** A connection to this TCP endpoint failed: it is connected to at once, unless that is under way. */
  suspect(endpoint: Backend): void
  /** Forgets endpoints that are gone. */
  keepOnly(isKnown: (endpoint: Backend) => boolean): void
}

/** Suspicion and the two attempts that confirm it fit into one second. */
const attemptTimeoutMs = 250
const confirmAfterMs = 100
const firstRetryMs = 500
const longestRetryMs = 5_000
/** However many are suspected, only so many are connected to at a time. */
const mostAtOnce = 64

/** A dialer that suspects endpoints on this node which it could not reach. */
export function createSuspectingDialer(
  dialer: Dialer,
  nodeName: string,
  probe: Pick<EndpointProbe, 'suspect'>,
): Dialer {
  return {
    dial(target, signal) {
      // Only dials on this node are evidence, so that others need no promise more.
      return target.nodeName === nodeName ? dialSuspecting(target, signal) : dialer.dial(target, signal)
    },
  }

  async function dialSuspecting(target: DialTarget, signal: AbortSignal): Promise<ByteStream> {
    try {
      return await dialer.dial(target, signal)
    } catch (error) {
      const { address, port } = target
      const isEvidence = error instanceof DialError && (error.failure === 'refused' || error.failure === 'unreachable')
      if (isEvidence) probe.suspect({ nodeName, address, port })
      throw error
    }
  }
}

/** Makes a probe that does nothing until an endpoint is suspected. */
export function createEndpointProbe(options: EndpointProbeOptions): EndpointProbe {
  return new RunningEndpointProbe(options)
}

/** An endpoint under observation, and what ends that. */
interface Watched {
  readonly endpoint: Backend
  readonly forgotten: AbortController
}

class RunningEndpointProbe implements EndpointProbe {
  readonly #options: EndpointProbeOptions
  readonly #tasks: TaskGroup
  readonly #sleep: typeof sleep
  readonly #watched = new Map<string, Watched>()
  #withdrawn: ReadonlySet<string> = new Set()

  constructor(options: EndpointProbeOptions) {
    this.#options = options
    this.#sleep = options.sleep ?? sleep
    this.#tasks = createLoggedTasks(options.logger)
  }

  get withdrawn(): ReadonlySet<string> {
    return this.#withdrawn
  }

  suspect(endpoint: Backend): void {
    const id = backendIdOf(endpoint)
    if (this.#watched.has(id) || this.#watched.size >= mostAtOnce) return
    const forgotten = new AbortController()
    this.#watched.set(id, { endpoint, forgotten })
    this.#tasks.run('endpoint probe', async (stopped) => {
      try {
        await this.#observe(endpoint, AbortSignal.any([stopped, forgotten.signal]))
      } catch (error) {
        if (!stopped.aborted && !forgotten.signal.aborted) throw error
      } finally {
        this.#watched.delete(id)
        this.#restore(id)
      }
    })
  }

  keepOnly(isKnown: (endpoint: Backend) => boolean): void {
    for (const { endpoint, forgotten } of this.#watched.values()) {
      if (!isKnown(endpoint)) forgotten.abort(new Error('the endpoint is gone'))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
  }

  /** Ends when the endpoint accepts a connection. */
  async #observe(endpoint: Backend, signal: AbortSignal): Promise<void> {
    if (await this.#accepts(endpoint, signal)) return
    await this.#sleep(confirmAfterMs, signal)
    if (await this.#accepts(endpoint, signal)) return
    this.#withdraw(endpoint)
    for (let delayMs = firstRetryMs; ; delayMs = Math.min(delayMs * 2, longestRetryMs)) {
      await this.#sleep(delayMs, signal)
      if (await this.#accepts(endpoint, signal)) return
    }
  }

  async #accepts({ nodeName, address, port }: Backend, signal: AbortSignal): Promise<boolean> {
    using attempt = new TimeLimit(attemptTimeoutMs, signal)
    try {
      const stream = await this.#options.dialer.dial({ protocol: 'tcp', nodeName, address, port }, attempt.signal)
      resetStream(stream, new Error('only asked whether it accepts'))
      return true
    } catch (error) {
      signal.throwIfAborted()
      // A node that is short of ports or descriptors knows nothing of the endpoint.
      return error instanceof DialError && error.failure === 'overloaded'
    }
  }

  #withdraw(endpoint: Backend): void {
    const id = backendIdOf(endpoint)
    this.#withdrawn = new Set([...this.#withdrawn, id])
    this.#options.logger.warn({ backend: id }, 'an endpoint does not accept connections and gets no new ones')
    this.#options.onChange()
  }

  #restore(id: string): void {
    if (!this.#withdrawn.has(id)) return
    this.#withdrawn = new Set([...this.#withdrawn].filter((other) => other !== id))
    this.#options.logger.info({ backend: id }, 'an endpoint gets new connections again')
    this.#options.onChange()
  }
}
