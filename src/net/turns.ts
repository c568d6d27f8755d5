/**
 * What one socket brings before all others have their turn: some 0.3 ms of work of a flow through the tunnel. libuv would
 * read 32 times in a row, which is 2 MiB, and a request on another connection would wait for all of it.
 */
export const turnBytes: number = 256 * 1024

/** The part of a stream that stops by an answer of `false` and goes on by `resume()`. */
export interface TurnTaker {
  readonly destroyed: boolean
  isPaused(): boolean
  resume(): unknown
}

/** Ends the turn of a socket that brings much, and lets it go on in the next turn of the event loop. */
export class Turns {
  readonly #stream: TurnTaker
  #left = turnBytes
  #isOver = false
  #mayGoOn = true

  constructor(stream: TurnTaker) {
    this.#stream = stream
  }

  /** Whether to read on at once after so many bytes; `mayGoOn` is what the reader says, who resumes if it says no. */
  after(bytes: number, mayGoOn: boolean): boolean {
    this.#mayGoOn = mayGoOn
    this.#left = mayGoOn ? this.#left - bytes : turnBytes
    if (this.#isOver) return false
    if (this.#left > 0) return mayGoOn
    this.#isOver = true
    setImmediate(this.#begin)
    return false
  }

  readonly #begin = (): void => {
    this.#isOver = false
    this.#left = turnBytes
    const stream = this.#stream
    if (this.#mayGoOn && !stream.destroyed && !stream.isPaused()) stream.resume()
  }
}
