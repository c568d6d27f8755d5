import { abortable } from '../../runtime/index.ts'

/**
 * One dial for all who want the same connection. It goes on while somebody waits for it: who gives up takes nothing
 * from the others.
 */
export class SharedDial<T> {
  readonly #abandoned = new AbortController()
  readonly #result: Promise<T>
  #waiting = 0
  #mayBeJoined = true

  constructor(dial: (signal: AbortSignal) => Promise<T>) {
    this.#result = dial(this.#abandoned.signal)
    // Each of those who wait is told; when all are gone nobody is.
    this.#result.catch(() => {})
  }

  /** False once somebody found that it takes too long: who comes now is better off with a dial of its own. */
  get mayBeJoined(): boolean {
    return this.#mayBeJoined
  }

  /** Resolves and rejects as the dial does, or rejects with the signal's reason; with the last one the dial ends. */
  async wait(signal: AbortSignal): Promise<T> {
    this.#waiting += 1
    try {
      return await abortable(this.#result, signal)
    } finally {
      this.#waiting -= 1
      if (signal.aborted) this.#mayBeJoined = false
      if (signal.aborted && this.#waiting === 0) this.#abandoned.abort(signal.reason)
    }
  }
}
