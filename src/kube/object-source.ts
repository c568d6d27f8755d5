/**
 * Where objects come from: a folder of manifests now, list-watches next. `start...Source` resolves once the first
 * complete list of every kind is in the sink, keeps the sink up to date from then on, and never empties it because
 * the origin went away. Disposal stops it; what the sink holds stays.
 */
export interface ObjectSource extends AsyncDisposable {
  /** How the source fares, for `edgemesh status`. */
  status(): ObjectSourceStatus
}

/** How a source fares, by kind of source. */
export type ObjectSourceStatus = ManifestsStatus

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
