/** The folder of manifests cannot be read at start: it is missing, no folder, or closed to this user. */
export class ManifestsDirectoryError extends Error {
  override readonly name = 'ManifestsDirectoryError'
  readonly code = 'EDGEMESH_MANIFESTS_DIRECTORY'
  readonly directory: string
  readonly remedy = 'Create the folder, or correct kubeAPIConfig.manifests'

  constructor(directory: string, cause: unknown) {
    super(`Cannot read the folder of manifests ${directory}`, { cause })
    this.directory = directory
  }
}
