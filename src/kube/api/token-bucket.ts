import { sleep } from '../../runtime/index.ts'

/** How many requests may be made. */
export interface RequestRate {
  /** Requests a second, on average. */
  readonly qps: number
  /** Requests at once after a quiet time. */
  readonly burst: number
}

/** Spaces requests out: `take` resolves when the next one may go, first come first served. */
export class TokenBucket {
  readonly #rate: RequestRate
  readonly #now: () => number
  /** When the bucket would have been empty, in the clock's milliseconds; the future means that requests wait. */
  #emptyAt: number

  constructor(rate: RequestRate, now: () => number = () => performance.now()) {
    this.#rate = rate
    this.#now = now
    this.#emptyAt = now() - this.#fullMs
  }

  /** Rejects with the signal's reason when it aborts first; the request is then counted all the same. */
  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    const waitMs = this.reserve()
    if (waitMs > 0) await sleep(waitMs, signal)
  }

  /** Counts a request and tells how long it has to wait. */
  reserve(): number {
    const now = this.#now()
    this.#emptyAt = Math.max(this.#emptyAt, now - this.#fullMs) + 1000 / this.#rate.qps
    return Math.max(0, this.#emptyAt - now)
  }

  get #fullMs(): number {
    return (this.#rate.burst * 1000) / this.#rate.qps
  }
}
