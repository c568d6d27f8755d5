import { ApiTimeoutError } from './errors.ts'

/**
 * Ends something when its caller no longer wants it, when it takes too long as a whole, or when its present stage
 * does. Disposal cancels the timers and detaches from the caller's signal, which may live as long as the process.
 */
export class TimeLimits implements Disposable {
  readonly #controller = new AbortController()
  readonly #caller: AbortSignal
  readonly #onCallerAbort: () => void
  readonly #total: NodeJS.Timeout
  #stage: NodeJS.Timeout | undefined

  /** `what` is named in the error when the time is over. */
  constructor(what: string, totalMs: number, caller: AbortSignal) {
    this.#caller = caller
    this.#onCallerAbort = () => this.#controller.abort(caller.reason)
    if (caller.aborted) this.#onCallerAbort()
    else caller.addEventListener('abort', this.#onCallerAbort, { once: true })
    this.#total = this.#timer(totalMs, what)
  }

  /** Aborts with the caller's reason or an `ApiTimeoutError`. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Begins the next stage, which ends the one before. */
  stage(durationMs: number, what: string): void {
    clearTimeout(this.#stage)
    this.#stage = this.#timer(durationMs, what)
  }

  /** Lets only the whole be limited from now on. */
  endStage(): void {
    clearTimeout(this.#stage)
  }

  /** Resolves as the work does, or rejects when a limit is reached first; the work itself goes on. */
  async race<T>(work: Promise<T>): Promise<T> {
    const { promise: ended, reject } = Promise.withResolvers<never>()
    const end = () => reject(this.signal.reason)
    this.signal.addEventListener('abort', end, { once: true })
    try {
      this.signal.throwIfAborted()
      return await Promise.race([work, ended])
    } finally {
      this.signal.removeEventListener('abort', end)
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#total)
    clearTimeout(this.#stage)
    this.#caller.removeEventListener('abort', this.#onCallerAbort)
  }

  #timer(durationMs: number, what: string): NodeJS.Timeout {
    const seconds = durationMs < 1000 ? durationMs / 1000 : Math.round(durationMs / 1000)
    return setTimeout(() => this.#controller.abort(new ApiTimeoutError(`${what} took over ${seconds} s`)), durationMs)
  }
}
