import type { ObjectLists } from '../../catalog/index.ts'
import type { ManifestProblem } from '../object-source.ts'
import type { ManifestEntry, ManifestFile, SinkObject } from './manifest-file.ts'

/** All objects of a folder, and who overrides whom. */
export interface FolderObjects {
  readonly objects: ObjectLists
  /** Objects that are defined more than once; the last file by name is in force. */
  readonly overrides: readonly Override[]
}

/** One object that two files define. */
export interface Override {
  readonly id: string
  /** The file whose object is in force. */
  readonly file: string
  /** The file whose object is not. */
  readonly overriddenFile: string
}

interface FileState {
  readonly entries: readonly ManifestEntry[]
  readonly problems: readonly ManifestProblem[]
  /** False until the file was once free of problems; only then has it a good state to fall back to. */
  readonly wasGood: boolean
}

/**
 * What each file of a folder contributes. A file with a problem keeps its last good objects; one that never was good
 * contributes those of its objects that are. Pure: someone else reads the files.
 */
export class FolderState {
  readonly #files = new Map<string, FileState>()

  /** How many files contribute. */
  get size(): number {
    return this.#files.size
  }

  /** What is wrong in the files now, by file name. */
  get problems(): readonly ManifestProblem[] {
    return this.#sorted().flatMap(([, { problems }]) => problems)
  }

  /** Takes the new content of a file. */
  set(file: string, { entries, problems }: ManifestFile): void {
    const known = this.#files.get(file)
    const isGood = problems.length === 0
    const keepsLastGood = !isGood && known?.wasGood === true
    this.#files.set(file, {
      entries: keepsLastGood ? known.entries : entries,
      problems,
      wasGood: isGood || keepsLastGood,
    })
  }

  /** Forgets a file that is gone. */
  delete(file: string): void {
    this.#files.delete(file)
  }

  /** Folds the files, by name, into one set of objects. */
  fold(): FolderObjects {
    const inForce = new Map<string, { readonly file: string; readonly entry: ManifestEntry }>()
    const overrides: Override[] = []
    for (const [file, { entries }] of this.#sorted()) {
      for (const entry of entries) {
        const other = inForce.get(entry.id)
        if (other !== undefined) overrides.push({ id: entry.id, file, overriddenFile: other.file })
        inForce.set(entry.id, { file, entry })
      }
    }
    return { objects: partition([...inForce.values()].flatMap(({ entry }) => entry.objects)), overrides }
  }

  #sorted(): readonly (readonly [string, FileState])[] {
    return [...this.#files].sort(([left], [right]) => (left < right ? -1 : 1))
  }
}

function partition(all: readonly SinkObject[]): ObjectLists {
  const byKind = Map.groupBy(all, ({ kind }) => kind)
  return Object.fromEntries([...byKind].map(([kind, entries]) => [kind, entries.map(({ object }) => object)]))
}
