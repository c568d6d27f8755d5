import { TimeLimit } from '../../runtime/index.ts'

/** Lets those who wait for a change look again. */
export class Changes {
  readonly #waiting = new Set<() => void>()

  /** Something has changed. */
  tell(): void {
    for (const look of [...this.#waiting]) look()
  }

  /** Resolves with the next change, and after that many milliseconds at most; rejects with the signal's reason. */
  async next(limitMs: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    using limit = new TimeLimit(limitMs, signal)
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.add(resolve)
    limit.signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(resolve)
    signal.throwIfAborted()
  }
}
