/** Is told of a background task that ended with an error; the other tasks go on. */
export type TaskFailureHandler = (taskName: string, error: unknown) => void

/**
 * Owns background work. Each task gets the group's signal; disposal aborts it and waits for every task to end.
 * A task that fails after the abort is silent: it was asked to stop.
 */
export class TaskGroup implements AsyncDisposable {
  readonly #controller = new AbortController()
  readonly #running = new Set<Promise<void>>()
  readonly #onFailure: TaskFailureHandler

  constructor(onFailure: TaskFailureHandler) {
    this.#onFailure = onFailure
  }

  /** Aborts when the group is disposed. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** How many tasks are running. */
  get size(): number {
    return this.#running.size
  }

  /** Starts a task. Does nothing once the group is disposed. */
  run(name: string, task: (signal: AbortSignal) => Promise<void>): void {
    if (this.signal.aborted) return
    const running = this.#guard(name, task)
    this.#running.add(running)
    void running.then(() => this.#running.delete(running))
  }

  /** Resolves when no task is left, or when the signal aborts; tasks are not asked to stop. */
  async idle(signal: AbortSignal): Promise<void> {
    while (this.#running.size > 0 && !signal.aborted) {
      await Promise.race([Promise.allSettled(this.#running), onceAborted(signal)])
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#controller.abort(new Error('stopping'))
    await Promise.allSettled(this.#running)
  }

  async #guard(name: string, task: (signal: AbortSignal) => Promise<void>): Promise<void> {
    try {
      await task(this.signal)
    } catch (error) {
      if (!this.signal.aborted) this.#onFailure(name, error)
    }
  }
}

function onceAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
