/** A way on which a stream could not be opened is passed over for this long; its own probes end it if it is dead. */
const suspectMs = 10_000

/** Ways that were tried in vain not long ago. */
export class Suspects {
  readonly #untilMs = new WeakMap<object, number>()
  readonly #nowMs: () => number

  /** `nowMs` never jumps. */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  add(way: object): void {
    this.#untilMs.set(way, this.#nowMs() + suspectMs)
  }

  has(way: object): boolean {
    return (this.#untilMs.get(way) ?? Number.NEGATIVE_INFINITY) >= this.#nowMs()
  }
}
