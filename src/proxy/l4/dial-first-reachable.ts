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
export async function dialFirstReachable(options: DialFirstReachableOptions, signal: AbortSignal): Promise<Dialled> {
  signal.throwIfAborted()
  return await new DialRace(options).run(signal)
}

class DialRace {
  readonly #options: DialFirstReachableOptions
  readonly #attempts: Iterator<Backend>
  readonly #running = new Map<Backend, AbortController>()
  readonly #failures: FailedDial[] = []
  readonly #startedMs = performance.now()
  readonly #outcome = Promise.withResolvers<Dialled>()
  #started = 0
  #isOver = false

  constructor(options: DialFirstReachableOptions) {
    this.#options = options
    this.#attempts = options.balancer.attempts(options.client)
  }

  async run(signal: AbortSignal): Promise<Dialled> {
    const onAbort = () => this.#end(() => this.#outcome.reject(signal.reason), signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    this.#startNext()
    try {
      return await this.#outcome.promise
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** Dials the next backend; fails when there is none and none is being dialled. */
  #startNext(): void {
    const { maxAttempts, totalTimeoutMs } = this.#options.policy
    const leftMs = this.#startedMs + totalTimeoutMs - performance.now()
    const next = this.#started < maxAttempts && leftMs > 0 ? this.#attempts.next() : undefined
    if (next !== undefined && next.done !== true) {
      this.#started += 1
      void this.#attempt(next.value, leftMs)
    } else if (this.#running.size === 0) {
      this.#end(() => this.#outcome.reject(new NoBackendError(this.#failures)), undefined)
    }
  }

  async #attempt(backend: Backend, leftMs: number): Promise<void> {
    const { dialer, balancer, policy, client } = this.#options
    const timeoutMs = Math.min(policy.attemptTimeoutMs, leftMs)
    const attempt = new AbortController()
    this.#running.set(backend, attempt)
    using _slow = after(policy.slowAfterMs, () => {
      balancer.dialSlow(backend)
      this.#startNext()
    })
    try {
      const stream = await dialWithin(dialer, backend, timeoutMs, attempt)
      this.#running.delete(backend)
      if (this.#isOver) {
        resetStream(stream, new Error('another backend was faster'))
        return
      }
      balancer.dialSucceeded(backend, client)
      this.#end(() => this.#outcome.resolve({ stream, backend }), undefined)
    } catch (error) {
      this.#running.delete(backend)
      if (!this.#isOver) this.#failed(backend, error)
    }
  }

  #failed(backend: Backend, error: unknown): void {
    const failure = { backend, error }
    this.#options.balancer.dialFailed(backend)
    this.#failures.push(failure)
    this.#options.onFailure(failure)
    this.#startNext()
  }

  /** Settles once; without a reason from outside, the backends that are still being dialled were too slow. */
  #end(settle: () => void, reason: unknown): void {
    if (this.#isOver) return
    this.#isOver = true
    for (const [backend, attempt] of this.#running) {
      if (reason === undefined) this.#options.balancer.dialFailed(backend)
      attempt.abort(reason ?? new Error('another backend was faster'))
    }
    settle()
  }
}

async function dialWithin(
  dialer: Dialer,
  backend: Backend,
  timeoutMs: number,
  attempt: AbortController,
): Promise<ByteStream> {
  const { nodeName, address, port } = backend
  using _timeout = after(timeoutMs, () => attempt.abort(timeoutError(backend, timeoutMs)))
  return await dialer.dial({ protocol: 'tcp', nodeName, address, port }, attempt.signal)
}

/** Runs `action` once the time is over, unless it is disposed before. */
function after(durationMs: number, action: () => void): Disposable {
  const timer = setTimeout(action, durationMs)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}

function timeoutError({ nodeName, address, port }: Backend, timeoutMs: number): DialError {
  const where = nodeName === undefined ? '' : ` on ${nodeName}`
  return new DialError('unreachable', `connect ETIMEDOUT ${address}:${port}${where} (${Math.round(timeoutMs)} ms)`)
}
