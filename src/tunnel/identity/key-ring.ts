import { describeError, type Logger } from '../../observability/index.ts'
import { fileVersionOf, sleep } from '../../runtime/index.ts'
import type { TunnelConfig } from '../config.ts'
import { readPreSharedKey } from './pre-shared-key.ts'

/** Where the pre-shared keys are. */
export type KeyFiles = Pick<TunnelConfig['psk'], 'path' | 'previousPath'>

const pollMs = 2000

/**
 * The pre-shared keys of this node: the one that it dials with, and during a rotation the one before it. Both follow
 * their files; what cannot be read leaves the keys as they are.
 */
export class KeyRing {
  #files: KeyFiles
  #current: Uint8Array
  #previous: Uint8Array | undefined
  #version = ''
  #problem = ''

  private constructor(files: KeyFiles, current: Uint8Array) {
    this.#files = files
    this.#current = current
  }

  /** Reads the keys; rejects with a `PreSharedKeyError`. */
  static async open(files: KeyFiles): Promise<KeyRing> {
    const ring = new KeyRing(files, await readPreSharedKey(files.path))
    await ring.set(files)
    return ring
  }

  /** A ring of keys that never change. */
  static of(current: Uint8Array, previous?: Uint8Array): KeyRing {
    const ring = new KeyRing({ path: '', previousPath: '' }, current)
    ring.#previous = previous
    return ring
  }

  /** What this node dials with. */
  get current(): Uint8Array {
    return this.#current
  }

  /** What else is accepted, and dialled with where the current one is refused; undefined when that is the same key. */
  get previous(): Uint8Array | undefined {
    return this.#previous
  }

  /** The keys that peers may have, the current one first. */
  get all(): readonly Uint8Array[] {
    return this.#previous === undefined ? [this.#current] : [this.#current, this.#previous]
  }

  /** Takes the keys from these files from now on; rejects with a `PreSharedKeyError`, and changes nothing, when it cannot. */
  async set(files: KeyFiles): Promise<void> {
    const version = await versionOf(files)
    const current = await readPreSharedKey(files.path)
    const previous = files.previousPath === '' ? undefined : await readPreSharedKey(files.previousPath)
    this.#files = files
    this.#current = current
    this.#previous = previous === undefined || isSame(previous, current) ? undefined : previous
    this.#version = version
  }

  /** Looks at the files every other second until the signal aborts. */
  async follow(logger: Logger, signal: AbortSignal): Promise<never> {
    for (;;) {
      await sleep(pollMs, signal)
      await this.look(logger)
    }
  }

  /** Reads the keys anew when their files have changed; says once what is wrong with them. */
  async look(logger: Logger): Promise<void> {
    if ((await versionOf(this.#files)) === this.#version) return
    const before = this.all
    try {
      await this.set(this.#files)
    } catch (error) {
      const problem = describeError(error)
      if (problem !== this.#problem) logger.error({ error }, 'pre-shared key not reloaded; the one in force stays')
      this.#problem = problem
      return
    }
    this.#problem = ''
    const { all } = this
    const isChanged = all.length !== before.length || all.some((key, index) => !isSame(key, before[index]))
    if (isChanged) logger.info({ file: this.#files.path, count: all.length }, 'pre-shared key reloaded')
  }
}

function isSame(left: Uint8Array, right: Uint8Array | undefined): boolean {
  return right !== undefined && Buffer.from(left).equals(right)
}

/** Changes whenever a file may have changed. */
async function versionOf({ path, previousPath }: KeyFiles): Promise<string> {
  const files = previousPath === '' ? [path] : [path, previousPath]
  const versions = await Promise.all(files.map((file) => fileVersionOf(file).catch(() => 'absent')))
  return versions.join(' ')
}
