/**
 * A signal that aborts after a time or with any of its parents. For work that begins often: disposal gives the timer
 * back at once and lets go of parents that live long. `AbortSignal.timeout` holds its memory until the time is up,
 * and `AbortSignal.any` of a signal made from one is never freed.
 */
export class TimeLimit implements Disposable {
  readonly #controller = new AbortController()
  readonly #timer: NodeJS.Timeout
  readonly #parents: readonly AbortSignal[]
  readonly #onParentAbort = () => this.#controller.abort(this.#parents.find(({ aborted }) => aborted)?.reason)
  #isOver = false

  constructor(durationMs: number, ...parents: readonly AbortSignal[]) {
    this.#parents = parents
    this.#timer = setTimeout(() => {
      this.#isOver = true
      this.#controller.abort(new DOMException(`not done within ${durationMs} ms`, 'TimeoutError'))
    }, durationMs)
    for (const parent of parents) parent.addEventListener('abort', this.#onParentAbort, { once: true })
    if (parents.some(({ aborted }) => aborted)) this.#onParentAbort()
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
    for (const parent of this.#parents) parent.removeEventListener('abort', this.#onParentAbort)
  }
}
