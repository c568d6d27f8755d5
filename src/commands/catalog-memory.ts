import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import { promisify } from 'node:util'
import { createGzip, gunzip } from 'node:zlib'
import { parseStoredObjects, type RememberedCatalog, renderStoredObjects } from '../catalog/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../observability/index.ts'
import { aborted, readBytesIfExists, sleep, type TaskGroup, writeFileAtomically } from '../runtime/index.ts'

const firstDelayMs = 5_000

/** Rendering takes the main thread, so with many objects it happens less often: 1 % of the time at most. */
const restPerWork = 100

/** Long enough for a disk to be emptied by hand. */
const retryMs = 60_000

/** What a memory needs. */
export interface CatalogMemoryOptions {
  readonly catalog: RememberedCatalog
  readonly stateDir: string
  readonly logger: Logger
  /** How long changes are gathered before they are written. */
  readonly delayMs?: number
  readonly retryMs?: number
  /** By the clock of this node, in milliseconds since 1970. */
  readonly now?: () => number
}

/** Keeps the objects of a catalog on disk from one run to the next. */
export interface CatalogMemory extends AsyncDisposable {
  status(): CatalogMemoryStatus
}

/** How the memory fares, for `edgemesh status`. */
export interface CatalogMemoryStatus {
  /**
   * Seconds since the objects in force were written, 0 when the clock of this node is behind; absent once the source
   * has listed every kind.
   */
  readonly ageSeconds?: number
  /** Why the objects of now are not on disk. */
  readonly problem?: string
}

/**
 * Primes the catalog with the objects of `stateDir/catalog.json.gz`, if there are any, and from then on keeps that file
 * up to date; disposal writes what is not written yet. Start it before the source and dispose it after the source.
 * Never rejects: without a usable file the source fills the catalog, without a usable disk nothing is remembered.
 */
export async function startCatalogMemory(options: CatalogMemoryOptions): Promise<CatalogMemory> {
  const memory = new DiskMemory(options)
  await memory.begin()
  return memory
}

class DiskMemory implements CatalogMemory {
  readonly #file: string
  readonly #options: Required<CatalogMemoryOptions>
  readonly #tasks: TaskGroup
  readonly #subscription = new DisposableStack()
  #savedAt: number | undefined
  /** Aborted while something is not on disk. */
  #unsaved = new AbortController()
  #problem: string | undefined

  constructor(options: CatalogMemoryOptions) {
    this.#options = { delayMs: firstDelayMs, retryMs, now: Date.now, ...options }
    this.#file = join(options.stateDir, 'catalog.json.gz')
    this.#tasks = createLoggedTasks(options.logger, 'objects are not stored any more')
  }

  async begin(): Promise<void> {
    await this.#load()
    const { catalog } = this.#options
    this.#subscription.use(catalog.subscribe(() => this.#noteChange()))
    this.#tasks.run('object store', (signal) => this.#saveChanges(signal))
  }

  status(): CatalogMemoryStatus {
    const { catalog, now } = this.#options
    const ageSeconds = Math.max(0, Math.round((now() - (this.#savedAt ?? 0)) / 1000))
    return {
      ...(this.#savedAt !== undefined && !catalog.isListed && { ageSeconds }),
      ...(this.#problem !== undefined && { problem: this.#problem }),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
    this.#subscription.dispose()
    if (this.#unsaved.signal.aborted) await this.#save()
  }

  async #load(): Promise<void> {
    const { catalog, logger } = this.#options
    const file = this.#file
    const started = performance.now()
    try {
      const bytes = await readBytesIfExists(file)
      if (bytes === undefined) return
      const { savedAt, objects } = parseStoredObjects((await promisify(gunzip)(bytes)).toString('utf8'))
      catalog.prime(objects)
      this.#savedAt = savedAt
      const durationMs = Math.round(performance.now() - started)
      logger.info(
        { file, count: objects.services?.length ?? 0, durationMs },
        'stored objects are in force until the API answers',
      )
    } catch (error) {
      const remedy = await this.#setAside()
      logger.warn({ file, error, remedy }, 'stored objects cannot be used; nothing is known until the API answers')
    }
  }

  /** What became of the file, for the log. */
  async #setAside(): Promise<string> {
    const aside = `${this.#file}.damaged`
    try {
      await rename(this.#file, aside)
      return `the file is kept as ${aside}`
    } catch (error) {
      return `the file stays where it is: ${describeError(error)}`
    }
  }

  #noteChange(): void {
    // Until the source has told everything, the file on disk is as good as what is known.
    if (this.#options.catalog.isListed) this.#unsaved.abort()
  }

  async #saveChanges(signal: AbortSignal): Promise<void> {
    const { delayMs } = this.#options
    let restMs = 0
    while (!signal.aborted) {
      await aborted(AbortSignal.any([signal, this.#unsaved.signal]))
      await sleep(Math.max(delayMs, restMs), signal)
      restMs = restPerWork * (await this.#save())
      if (this.#problem !== undefined) await sleep(this.#options.retryMs, signal)
    }
  }

  /** Writes the objects of now; gives the milliseconds for which the process could do nothing else. */
  async #save(): Promise<number> {
    const { catalog, now } = this.#options
    this.#unsaved = new AbortController()
    let durationMs = 0
    const pieces = unhurried(renderStoredObjects({ savedAt: now(), objects: catalog.objects() }), (ms) => {
      durationMs += ms
    })
    try {
      // Its checksum tells a damaged file; `zcat` shows an intact one.
      await writeFileAtomically(this.#file, await pipeline(pieces, createGzip({ level: 1 }), buffer))
      this.#noteWritten()
    } catch (error) {
      this.#unsaved.abort()
      this.#noteFailure(error)
    }
    return durationMs
  }

  #noteWritten(): void {
    if (this.#problem === undefined) return
    this.#problem = undefined
    this.#options.logger.info({ file: this.#file }, 'objects are stored again')
  }

  #noteFailure(error: unknown): void {
    const reason = describeError(error)
    if (this.#problem === undefined) {
      this.#options.logger.warn(
        { file: this.#file, reason },
        'objects cannot be stored; a start without the API knows older ones',
      )
    }
    this.#problem = reason
  }
}

/** Hands on the pieces one at a time with a turn for everybody else in between; tells what each one took. */
async function* unhurried(pieces: Iterable<string>, onTime: (ms: number) => void): AsyncGenerator<string> {
  const iterator = pieces[Symbol.iterator]()
  for (;;) {
    const started = performance.now()
    const { done, value } = iterator.next()
    onTime(performance.now() - started)
    if (done === true) return
    yield value
    await setImmediate()
  }
}
