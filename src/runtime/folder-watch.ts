import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { aborted } from './sleep.ts'
import { TimeLimit } from './time-limit.ts'

const quietMs = 50
const longestMs = 500

/**
 * Says when a folder may have changed: soon after the last of a burst of file events, and at the latest after the
 * poll interval, because file events get lost on network file systems and when the folder itself is replaced.
 */
export class FolderWatch implements Disposable {
  readonly #directory: string
  readonly #pollMs: number
  #watcher: FSWatcher | undefined
  #identity: string | undefined
  #event = new AbortController()

  constructor(directory: string, pollMs: number) {
    this.#directory = directory
    this.#pollMs = pollMs
  }

  /** Watches the folder of that identity; undefined while there is none. Does nothing when it already does. */
  follow(identity: string | undefined): void {
    if (identity === this.#identity) return
    this.#watcher?.close()
    this.#watcher = undefined
    this.#identity = identity
    if (identity === undefined) return
    try {
      this.#watcher = watch(this.#directory, () => this.#event.abort())
      // Out of watches, or the folder went away: the poll still finds every change.
      this.#watcher.on('error', () => this.#event.abort())
      // What changed between the caller's look at the folder and now made no event.
      this.#event.abort()
    } catch {
      this.#watcher = undefined
    }
  }

  /** Resolves when it is time to look again; rejects when the signal aborts. */
  async changed(signal: AbortSignal): Promise<void> {
    if (!(await this.#eventWithin(this.#pollMs, signal))) return
    const deadline = performance.now() + longestMs
    while (performance.now() < deadline && (await this.#eventWithin(quietMs, signal))) {
      // Events still come: a file written in pieces should be read once, when it is whole.
    }
  }

  [Symbol.dispose](): void {
    this.follow(undefined)
  }

  /** True when an event came first, which is then forgotten. */
  async #eventWithin(durationMs: number, signal: AbortSignal): Promise<boolean> {
    const event = this.#event.signal
    using pause = new TimeLimit(durationMs, signal, event)
    await aborted(pause.signal)
    signal.throwIfAborted()
    if (event.aborted) this.#event = new AbortController()
    return event.aborted
  }
}

/** Changes when a folder was replaced by another one of the same name; rejects when there is none. */
export async function folderIdentityOf(directory: string): Promise<string> {
  const { dev, ino } = await stat(directory)
  return `${dev}:${ino}`
}

/**
 * Text that changes whenever a file's content may have changed, also when a link now leads to another file; undefined
 * for what is no regular file. Rejects when there is nothing.
 */
export async function fileVersionOf(path: string): Promise<string | undefined> {
  const status = await stat(path, { bigint: true })
  const { mtimeNs, ctimeNs, size, dev, ino } = status
  return status.isFile() ? [mtimeNs, ctimeNs, size, dev, ino].join(':') : undefined
}
