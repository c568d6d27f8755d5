/** A pause of the sender that is no chance; in a LAN a window goes through in half a millisecond. */
const noticeableMs = 0.3

/**
 * Tells the receiver of a flow that its sender waits for credit: it stops just where its credit ended, until the next
 * one gets there. That is how a window shows that is too small for a long way, however fast the reader is.
 */
export class Starvation {
  readonly #nowMs: () => number
  #limit = 0
  #exhaustedMs: number | undefined
  #isSeen = false

  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs
  }

  /** More credit is on its way to a sender that may send up to this offset until it gets there. */
  granted(formerLimit: number): void {
    this.#limit = formerLimit
  }

  /** Something arrives. */
  arriving(): void {
    if (this.#exhaustedMs === undefined) return
    if (this.#nowMs() - this.#exhaustedMs > noticeableMs) this.#isSeen = true
    this.#exhaustedMs = undefined
  }

  /** Everything up to this offset has arrived. */
  arrived(offset: number): void {
    if (offset === this.#limit) this.#exhaustedMs = this.#nowMs()
  }

  /** Whether the sender had to wait since this was last asked. */
  take(): boolean {
    const isSeen = this.#isSeen
    this.#isSeen = false
    return isSeen
  }
}
