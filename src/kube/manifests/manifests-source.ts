import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { KubeObjects, ObjectKind, ObjectSink } from '../../catalog/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../../observability/index.ts'
import { FolderWatch, type TaskGroup } from '../../runtime/index.ts'
import { basicKinds } from '../basic-kinds.ts'
import type { ManifestProblem, ManifestsStatus, ObjectSource } from '../object-source.ts'
import { ManifestsDirectoryError } from './errors.ts'
import { FolderState } from './folder-state.ts'
import { type ManifestFile, parseManifestFile } from './manifest-file.ts'
import { type FolderScan, scanFolder } from './scan-folder.ts'

/** Where the manifests are and where their objects go. */
export interface ManifestsSourceOptions {
  /** Folder with `*.yaml`, `*.yml` and `*.json`; subfolders and dotfiles are not looked at. */
  readonly directory: string
  readonly sink: ObjectSink
  readonly logger: Logger
  /** What is read; objects of other kinds are passed over. */
  readonly kinds?: readonly ObjectKind[]
  /** Aborts a start that is under way. */
  readonly signal?: AbortSignal
  /** How often the folder is looked at without a file event. */
  readonly pollMs?: number
}

/**
 * Reads a folder of manifests into the sink and follows its changes. While the folder is away, or a file is broken,
 * the last good objects stay in force. Rejects with a `ManifestsDirectoryError` when there is no folder at start.
 */
export async function startManifestsSource(options: ManifestsSourceOptions): Promise<ObjectSource<ManifestsStatus>> {
  const source = new ManifestsSource(options)
  try {
    await source.begin()
  } catch (error) {
    await source[Symbol.asyncDispose]()
    throw error
  }
  return source
}

class ManifestsSource implements ObjectSource<ManifestsStatus> {
  readonly #options: ManifestsSourceOptions
  readonly #logger: Logger
  readonly #watch: FolderWatch
  readonly #tasks: TaskGroup
  readonly #folder = new FolderState()
  readonly #kinds: ReadonlySet<ObjectKind>
  #signatures: ReadonlyMap<string, string | undefined> = new Map()
  #folderProblem: ManifestProblem | undefined
  #knownOverrides: ReadonlySet<string> = new Set()

  constructor(options: ManifestsSourceOptions) {
    this.#options = options
    this.#logger = options.logger
    // A folder is complete at once: what others refer to comes first, and the catalog publishes after the last.
    const lastKinds = new Set<ObjectKind>(['services', 'endpointSlices'])
    const kinds = new Set(options.kinds ?? basicKinds)
    this.#kinds = kinds.difference(lastKinds).union(kinds.intersection(lastKinds))
    this.#watch = new FolderWatch(options.directory, options.pollMs ?? 2000)
    this.#tasks = createLoggedTasks(this.#logger, 'watching manifests ended')
  }

  async begin(): Promise<void> {
    const { directory, signal } = this.#options
    const scan = await scanFolder(directory).catch((error: unknown) => {
      throw new ManifestsDirectoryError(directory, error)
    })
    signal?.throwIfAborted()
    this.#watch.follow(scan.identity)
    await this.#take(scan)
    this.#deliver()
    signal?.throwIfAborted()
    this.#logger.info({ file: directory, count: this.#folder.size }, 'manifests are read and watched')
    this.#tasks.run('manifests watch', (stopped) => this.#followChanges(stopped))
  }

  status(): ManifestsStatus {
    const { directory } = this.#options
    const errors = [...(this.#folderProblem === undefined ? [] : [this.#folderProblem]), ...this.#folder.problems]
    return { kind: 'manifests', directory, files: this.#folder.size, errors }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
    this.#watch[Symbol.dispose]()
  }

  async #followChanges(stopped: AbortSignal): Promise<void> {
    while (!stopped.aborted) {
      await this.#watch.changed(stopped)
      const scan = await this.#scan()
      this.#watch.follow(scan?.identity)
      if (scan !== undefined && (await this.#take(scan)) && !stopped.aborted) this.#deliver()
    }
  }

  async #scan(): Promise<FolderScan | undefined> {
    const { directory } = this.#options
    try {
      const scan = await scanFolder(directory)
      if (this.#folderProblem !== undefined) this.#logger.info({ file: directory }, 'the folder of manifests is back')
      this.#folderProblem = undefined
      return scan
    } catch (error) {
      const message = describeError(error)
      if (this.#folderProblem?.message !== message) {
        const fields = { file: directory, reason: message }
        this.#logger.warn(fields, 'the folder of manifests cannot be read; its last objects stay in force')
      }
      this.#folderProblem = { file: directory, line: 0, message }
      return undefined
    }
  }

  /** Reads what changed since the last scan; true when something did. */
  async #take({ files }: FolderScan): Promise<boolean> {
    const known = this.#signatures
    const changed = [...files].filter(([file, signature]) => !known.has(file) || known.get(file) !== signature)
    const gone = [...known.keys()].filter((file) => !files.has(file))
    this.#signatures = files
    for (const file of gone) this.#folder.delete(file)
    for (const [file] of changed) await this.#read(file)
    return changed.length > 0 || gone.length > 0
  }

  async #read(file: string): Promise<void> {
    const content = await readManifest(this.#options.directory, file, this.#kinds)
    this.#folder.set(file, content)
    for (const { line, message } of content.notes) {
      this.#logger.warn({ file: `${file}:${line}`, reason: message }, 'a manifest asks for something that is left out')
    }
    for (const { line, message } of content.problems) {
      const fields = { file: line === 0 ? file : `${file}:${line}`, reason: message }
      this.#logger.warn(fields, 'a manifest is not usable; the last good objects of its file stay in force')
    }
  }

  #deliver(): void {
    const { objects, overrides } = this.#folder.fold()
    const { sink } = this.#options
    for (const kind of this.#kinds) {
      sink.replace(kind, (objects[kind] ?? []) as readonly KubeObjects[typeof kind][])
    }
    const known = this.#knownOverrides
    const current = new Map(overrides.map((override) => [JSON.stringify(override), override]))
    this.#knownOverrides = new Set(current.keys())
    for (const [key, { id, file, overriddenFile }] of current) {
      if (known.has(key)) continue
      const reason = `${id} is also in ${overriddenFile}`
      this.#logger.warn({ file, reason }, 'an object is defined twice; the last file by name is in force')
    }
  }
}

async function readManifest(directory: string, file: string, kinds: ReadonlySet<ObjectKind>): Promise<ManifestFile> {
  try {
    return parseManifestFile(file, await readFile(join(directory, file), 'utf8'), kinds)
  } catch (error) {
    return { entries: [], notes: [], problems: [{ file, line: 0, message: describeError(error) }] }
  }
}
