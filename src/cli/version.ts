import process from 'node:process'
import type { BuildInfo } from '../commands/index.ts'

/** Put in place by the build; absent when the sources run as they are. */
declare const EDGEMESH_BUILD: BuildInfo | undefined

/** Version and commit of this build. */
export const build: BuildInfo =
  typeof EDGEMESH_BUILD === 'undefined' ? { version: 'dev', commit: 'unknown' } : EDGEMESH_BUILD

/** `edgemesh 0.1.0 (commit abc123, node v24.21.0, linux-x64)`. */
export function renderVersion({ version, commit }: BuildInfo): string {
  return `edgemesh ${version} (commit ${commit}, node ${process.version}, ${process.platform}-${process.arch})`
}
