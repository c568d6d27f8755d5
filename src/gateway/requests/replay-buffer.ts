/** What one request may hold back for another attempt. */
const mostReplayed = 65_536

/** The part of a request's body that came so far, as long as it is small enough to be sent again. */
export class ReplayBuffer {
  #chunks: Buffer[] = []
  #size = 0
  #isWhole = true

  /** True while the whole body so far can be sent again. */
  get isWhole(): boolean {
    return this.#isWhole
  }

  get chunks(): readonly Buffer[] {
    return this.#chunks
  }

  /** True when more should only come once what is here was sent. */
  get isFull(): boolean {
    return this.#size >= mostReplayed
  }

  /** Keeps a chunk that is not sent yet, however much there is. */
  hold(chunk: Buffer): void {
    this.#chunks.push(chunk)
    this.#size += chunk.length
  }

  /** Keeps a chunk that was sent, or gives everything up when it becomes too much. */
  keep(chunk: Buffer): void {
    if (!this.#isWhole) return
    if (this.#size + chunk.length > mostReplayed) this.drop()
    else this.hold(chunk)
  }

  /** Forgets everything: it cannot be sent again. */
  drop(): void {
    this.#isWhole = this.#isWhole && this.#size === 0
    this.#chunks = []
    this.#size = 0
  }
}
