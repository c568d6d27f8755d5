import type { Balancer, Client } from '../../loadbalancer/index.ts'
import type { Backend } from '../../model/index.ts'
import { type ByteStream, DialError, type Dialer, resetStream } from '../../net/index.ts'

/** How hard to try. */
export interface DialPolicy {
  readonly maxAttempts: number
  readonly attemptTimeoutMs: number
  /** When a backend has not answered by then the next one is dialled as well, and the first to answer is taken. */
  readonly slowAfterMs: number
  /** Bounds all attempts together. */
  readonly totalTimeoutMs: number
}

/** One backend that could not be dialled. */
export interface FailedDial {
  readonly backend: Backend
  readonly error: unknown
}

/** No backend could be dialled; the causes are in the order of the attempts. */
export class NoBackendError extends AggregateError {
  override readonly name = 'NoBackendError'
  readonly code = 'EDGEMESH_NO_BACKEND'

  constructor(failures: readonly FailedDial[]) {
    const reason = failures.length === 0 ? 'there are none' : `${failures.length} attempts failed`
    super(
      failures.map(({ error }) => error),
      `Cannot reach any backend: ${reason}`,
    )
  }
}

/** What to dial, and with what. */
export interface DialFirstReachableOptions {
  readonly dialer: Dialer
  readonly balancer: Balancer
  /** Who connects, as far as the balancer looks at it. */
  readonly client?: Client | undefined
  readonly policy: DialPolicy
  /** Is told of each failure, also when a later attempt succeeds. */
  readonly onFailure: (failure: FailedDial) => void
}

/** A stream to the backend that accepted. */
export interface Dialled {
  readonly stream: ByteStream
  readonly backend: Backend
}

/**
 * Dials the balancer's backends until one accepts, each at most once, and tells the balancer how each dial went. The
 * next one is dialled when one failed, and beside one that is slow. Throws `NoBackendError` when none accepts, or the
 * signal's reason.
 */
export function dialFirstReachable(options: DialFirstReachableOptions, signal: AbortSignal): Promise<Dialled> {
  return signal.aborted ? Promise.reject(signal.reason) : new DialRace(options, signal).run()
}

class DialRace {
  readonly #options: DialFirstReachableOptions
  readonly #signal: AbortSignal
  readonly #attempts: Iterator<Backend>
  readonly #running = new Set<Attempt>()
  readonly #failures: FailedDial[] = []
  readonly #startedMs = performance.now()
  readonly #outcome = Promise.withResolvers<Dialled>()
  #started = 0
  #isOver = false

  constructor(options: DialFirstReachableOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
    this.#attempts = options.balancer.attempts(options.client)
  }

  run(): Promise<Dialled> {
    this.#signal.addEventListener('abort', this)
    this.#startNext()
    return this.#outcome.promise
  }

  /** Of the signal: nobody wants the connection any more. */
  handleEvent(): void {
    const { reason } = this.#signal
    this.#end(reason)
    this.#outcome.reject(reason)
  }

  /** Dials the next backend; fails when there is none and none is being dialled. */
  #startNext(): void {
    const { maxAttempts, totalTimeoutMs } = this.#options.policy
    const leftMs = this.#startedMs + totalTimeoutMs - performance.now()
    const next = this.#started < maxAttempts && leftMs > 0 ? this.#attempts.next() : undefined
    if (next !== undefined && next.done !== true) {
      this.#started += 1
      void this.#try(next.value, leftMs)
    } else if (this.#running.size === 0) {
      this.#end(undefined)
      this.#outcome.reject(new NoBackendError(this.#failures))
    }
  }

  async #try(backend: Backend, leftMs: number): Promise<void> {
    const { dialer, balancer, policy, client } = this.#options
    const timeoutMs = Math.min(policy.attemptTimeoutMs, leftMs)
    const attempt = new Attempt(backend, { slowAfterMs: policy.slowAfterMs, timeoutMs }, () => {
      balancer.dialSlow(backend)
      this.#startNext()
    })
    this.#running.add(attempt)
    try {
      const { nodeName, address, port } = backend
      const stream = await dialer.dial({ protocol: 'tcp', nodeName, address, port }, attempt.signal)
      this.#finish(attempt)
      if (this.#isOver) {
        resetStream(stream, new Error('another backend was faster'))
        return
      }
      balancer.dialSucceeded(backend, client)
      this.#end(undefined)
      this.#outcome.resolve({ stream, backend })
    } catch (error) {
      this.#finish(attempt)
      if (!this.#isOver) this.#failed(backend, error)
    }
  }

  #finish(attempt: Attempt): void {
    attempt.end()
    this.#running.delete(attempt)
  }

  #failed(backend: Backend, error: unknown): void {
    const failure = { backend, error }
    this.#options.balancer.dialFailed(backend)
    this.#failures.push(failure)
    this.#options.onFailure(failure)
    this.#startNext()
  }

  /** Ends what is still under way; without a reason from outside, those backends were too slow. */
  #end(reason: unknown): void {
    this.#isOver = true
    this.#signal.removeEventListener('abort', this)
    for (const attempt of this.#running) {
      if (reason === undefined) this.#options.balancer.dialFailed(attempt.backend)
      attempt.end()
      attempt.abort(reason ?? new Error('another backend was faster'))
    }
  }
}

/** One backend that is being dialled; a single timer tells first that it is slow, then that its time is up. */
class Attempt {
  readonly backend: Backend
  readonly #times: AttemptTimes
  readonly #onSlow: () => void
  readonly #controller = new AbortController()
  #timer: NodeJS.Timeout

  constructor(backend: Backend, times: AttemptTimes, onSlow: () => void) {
    this.backend = backend
    this.#times = times
    this.#onSlow = onSlow
    const { slowAfterMs, timeoutMs } = times
    const isSlowFirst = slowAfterMs < timeoutMs
    this.#timer = isSlowFirst ? setTimeout(this.#slow, slowAfterMs) : setTimeout(this.#timeOut, timeoutMs)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  abort(reason: unknown): void {
    this.#controller.abort(reason)
  }

  /** Nothing is told from now on. */
  end(): void {
    clearTimeout(this.#timer)
  }

  readonly #slow = (): void => {
    const { slowAfterMs, timeoutMs } = this.#times
    this.#timer = setTimeout(this.#timeOut, timeoutMs - slowAfterMs)
    this.#onSlow()
  }

  readonly #timeOut = (): void => this.abort(timeoutError(this.backend, this.#times.timeoutMs))
}

interface AttemptTimes {
  readonly slowAfterMs: number
  readonly timeoutMs: number
}

function timeoutError({ nodeName, address, port }: Backend, timeoutMs: number): DialError {
  const where = nodeName === undefined ? '' : ` on ${nodeName}`
  return new DialError('unreachable', `connect ETIMEDOUT ${address}:${port}${where} (${Math.round(timeoutMs)} ms)`)
}
