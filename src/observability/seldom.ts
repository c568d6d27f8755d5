/** More keys than this are not told apart, so that strangers cannot fill the memory. */
const maxRemembered = 1000

/** Says when a line may be logged again: once for each key in a time, so that nobody can fill the log. */
export class Seldom {
  readonly #quietMs: number
  readonly #nowMs: () => number
  readonly #lastMs = new Map<string, number>()

  /** `nowMs` never jumps; default `performance.now`. */
  constructor(quietMs: number, nowMs: () => number = () => performance.now()) {
    this.#quietMs = quietMs
    this.#nowMs = nowMs
  }

  /** True the first time, and again after the time; whoever is told so logs the line. */
  isDue(key: string): boolean {
    const now = this.#nowMs()
    if (now - (this.#lastMs.get(key) ?? Number.NEGATIVE_INFINITY) < this.#quietMs) return false
    if (this.#lastMs.size >= maxRemembered) this.#lastMs.clear()
    this.#lastMs.set(key, now)
    return true
  }
}
