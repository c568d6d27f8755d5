/**
 * A time limit that is set anew for every message of a connection. One timer serves all of them: it is only moved when
 * the next limit is earlier than what it waits for, which is rare.
 */
export class Deadline {
  readonly #onPassed: () => void
  readonly #nowMs: () => number
  #timer: NodeJS.Timeout | undefined
  #firesAt = Number.POSITIVE_INFINITY
  #at = Number.POSITIVE_INFINITY

  constructor(onPassed: () => void, nowMs: () => number = () => performance.now()) {
    this.#onPassed = onPassed
    this.#nowMs = nowMs
  }

  /** Passes that long from now, unless it is set again before. */
  set(durationMs: number): void {
    this.#at = this.#nowMs() + durationMs
    if (this.#at < this.#firesAt) this.#wait(durationMs)
  }

  /** Does not pass until it is set again. */
  clear(): void {
    this.#at = Number.POSITIVE_INFINITY
  }

  /** Never passes, and lets go of its timer. */
  stop(): void {
    this.clear()
    clearTimeout(this.#timer)
    this.#firesAt = Number.POSITIVE_INFINITY
  }

  #wait(durationMs: number): void {
    clearTimeout(this.#timer)
    this.#firesAt = this.#at
    this.#timer = setTimeout(() => this.#onTimer(), durationMs)
  }

  #onTimer(): void {
    this.#firesAt = Number.POSITIVE_INFINITY
    const restMs = this.#at - this.#nowMs()
    if (restMs === Number.POSITIVE_INFINITY) return
    // Timers come up to a millisecond early.
    if (restMs > 1) this.#wait(restMs)
    else {
      this.clear()
      this.#onPassed()
    }
  }
}
