/**
 * A signal that aborts after a time or with any of its parents. For work that begins often: disposal gives the timer
 * back at once and lets go of parents that live long. `AbortSignal.timeout` holds its memory until the time is up,
 * and `AbortSignal.any` of a signal made from one is never freed.
 */
export class TimeLimit implements Disposable {
  readonly #controller = new AbortController()
  #timer: NodeJS.Timeout
  readonly #parents: readonly AbortSignal[]
  #isOver = false

  constructor(durationMs: number, ...parents: readonly AbortSignal[]) {
    this.#parents = parents
    this.#timer = this.#begin(durationMs)
    for (const parent of parents) {
      parent.addEventListener('abort', this)
      if (parent.aborted) this.handleEvent()
    }
  }

  /** From now on this is the time; does nothing to a signal that has aborted. */
  restart(durationMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = this.#begin(durationMs)
  }

  /** Of the parents: one of them has aborted. */
  handleEvent(): void {
    this.#controller.abort(this.#parents.find(({ aborted }) => aborted)?.reason)
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** True when the time was up, whether or not a parent had aborted before. */
  get isOver(): boolean {
    return this.#isOver
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer)
    for (const parent of this.#parents) parent.removeEventListener('abort', this)
  }

  #begin(durationMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#isOver = true
      this.#controller.abort(new DOMException(`not done within ${durationMs} ms`, 'TimeoutError'))
    }, durationMs)
  }
}
