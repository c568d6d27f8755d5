import { createLoggedTasks, type Logger } from '../observability/index.ts'
import { sleep, type TaskGroup } from '../runtime/index.ts'

/** How to notice changes. */
export interface NetworkWatchOptions {
  /** Text that differs whenever the network does. */
  readonly fingerprint: () => Promise<string>
  readonly logger: Logger
  /** How long to wait between two looks while they are cheap. */
  readonly intervalMs?: number
}

/** A look that took long is followed by a longer pause, so that looking costs at most a fiftieth of a processor. */
const pausePerLook = 50
const longestPauseMs = 10_000

/**
 * Notices changes of the network by looking again and again: the netlink library cannot survive a burst of the kernel's
 * own messages (docs/decisions/0008). One loop serves all listeners; it begins with the first one.
 */
export class NetworkWatch implements Disposable {
  readonly #options: NetworkWatchOptions
  readonly #tasks: TaskGroup
  readonly #listeners = new Set<{ readonly onChange: () => void }>()
  #firstLook: Promise<void> | undefined

  constructor(options: NetworkWatchOptions) {
    this.#options = options
    this.#tasks = createLoggedTasks(options.logger, 'watching the network ended')
  }

  /** Calls back after each change from now on, until disposed; rejects when the network cannot be read at all. */
  async add(onChange: () => void): Promise<Disposable> {
    const listener = { onChange }
    this.#listeners.add(listener)
    try {
      this.#firstLook ??= this.#begin()
      await this.#firstLook
    } catch (error) {
      this.#firstLook = undefined
      this.#listeners.delete(listener)
      throw error
    }
    return {
      [Symbol.dispose]: () => {
        this.#listeners.delete(listener)
      },
    }
  }

  [Symbol.dispose](): void {
    this.#listeners.clear()
    void this.#tasks[Symbol.asyncDispose]()
  }

  async #begin(): Promise<void> {
    const first = await this.#options.fingerprint()
    this.#tasks.run('network watch', (signal) => this.#follow(first, signal))
  }

  async #follow(first: string, signal: AbortSignal): Promise<void> {
    const { intervalMs = 500, logger } = this.#options
    let seen = first
    let isFailing = false
    let pauseMs = intervalMs
    for (;;) {
      await sleep(pauseMs, signal)
      const startedAt = performance.now()
      try {
        const current = await this.#options.fingerprint()
        if (current !== seen) this.#tell()
        seen = current
        isFailing = false
      } catch (error) {
        signal.throwIfAborted()
        if (!isFailing) logger.warn({ error }, 'cannot look at the network of this node; trying again')
        isFailing = true
      }
      pauseMs = Math.min(longestPauseMs, Math.max(intervalMs, pausePerLook * (performance.now() - startedAt)))
    }
  }

  #tell(): void {
    for (const { onChange } of this.#listeners) {
      try {
        onChange()
      } catch (error) {
        this.#options.logger.error({ error }, 'a change of the network could not be handled')
      }
    }
  }
}
