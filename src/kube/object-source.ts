import type { ObjectKind } from '../catalog/index.ts'
import type { ObjectKey, ObjectReport } from '../model/index.ts'

/**
 * Where objects come from. A source puts a complete list of every kind in the sink, keeps the sink up to date from
 * then on, and never empties it because the origin went away. A folder is read when `startManifestsSource` resolves;
 * an API is followed in the background, because it may be away. Disposal stops it; what the sink holds stays.
 */
export interface ObjectSource<S extends ObjectSourceStatus = ObjectSourceStatus> extends AsyncDisposable {
  /** How the source fares, for `edgemesh status`. */
  status(): S
  /** Writes what we think of an object into its status; absent where that is not possible. Rejects when it did not. */
  readonly report?: WriteReport
}

/** Writes a condition of ours into the status of an object that the source delivered. */
export type WriteReport = (kind: ObjectKind, key: ObjectKey, report: ObjectReport, signal: AbortSignal) => Promise<void>

/** How a source fares, by kind of source. */
export type ObjectSourceStatus = ManifestsStatus | ApiStatus

/** How a folder of manifests fares. */
export interface ManifestsStatus {
  readonly kind: 'manifests'
  readonly directory: string
  /** How many files were read. */
  readonly files: number
  /** What is wrong now; the last good objects of those files are in force. */
  readonly errors: readonly ManifestProblem[]
}

/** Something wrong in one file of a folder of manifests. */
export interface ManifestProblem {
  /** Name within the folder; the folder itself for problems that are not of one file. */
  readonly file: string
  /** Counted from 1; 0 when the problem is not at one line. */
  readonly line: number
  readonly message: string
}

/** How an API was found. */
export type ApiOrigin = 'metaServer' | 'kubeconfig' | 'in-cluster' | 'master'

/** How following an API fares. */
export interface ApiStatus {
  readonly kind: 'api'
  /** Undefined while none was found. */
  readonly origin: ApiOrigin | undefined
  /** Empty while none is known. */
  readonly url: string
  /** Why this API is followed, or why none is yet. */
  readonly reason: string
  readonly resources: readonly ResourceStatus[]
}

/** How following one kind of objects fares. */
export interface ResourceStatus {
  readonly kind: ObjectKind
  /** Which of them are followed, such as `spec.nodeName=edge-a`; absent for kinds that are always followed whole. */
  readonly selection?: string
  /** Of the resource in use, such as `discovery.k8s.io/v1`. */
  readonly apiVersion: string
  /** `waiting` to try again after `lastError`. */
  readonly state: 'listing' | 'watching' | 'waiting'
  /** How many objects are known. */
  readonly objects: number
  /** How many objects cannot be used as they are now. */
  readonly malformed: number
  /** How many objects are used without a part that cannot be used or is not supported. */
  readonly incomplete: number
  readonly lastError?: string
  /** Why an optional kind counts as empty; no error, and asked again now and then. */
  readonly notOffered?: string
  /** When the API was last heard of: the last list or event, in ISO 8601. */
  readonly lastSyncAt?: string
}
