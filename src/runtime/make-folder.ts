import { mkdir, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/** A folder that a setting names cannot be made or is none. */
export class FolderError extends Error {
  override readonly name = 'FolderError'
  readonly code = 'EDGEMESH_FOLDER'
  readonly remedy = 'name a folder on a writable disk that this user may write to, or run edgemesh as root'

  constructor(path: string, reason: string, options?: ErrorOptions) {
    super(`Cannot use the folder ${path}: ${reason}`, options)
  }
}

/**
 * Makes a folder and those above it; does nothing when it exists. Goes one level at a time, because Node's own
 * recursive mkdir never ends below /proc, where missing folders cannot be made and are not forbidden either.
 */
export async function makeFolder(path: string, mode: number): Promise<void> {
  const absolute = resolve(path)
  if (await isFolder(absolute)) return
  const parent = dirname(absolute)
  if (parent !== absolute) await makeFolder(parent, 0o755)
  try {
    await mkdir(absolute, { mode })
  } catch (error) {
    if (await isFolder(absolute)) return
    throw new FolderError(absolute, reasonOf(error), { cause: error })
  }
}

async function isFolder(path: string): Promise<boolean> {
  try {
    if ((await stat(path)).isDirectory()) return true
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false
    throw new FolderError(path, reasonOf(error), { cause: error })
  }
  throw new FolderError(path, 'it is a file')
}

const reasons: Readonly<Record<string, string>> = {
  EACCES: 'permission denied',
  EISDIR: 'a folder is in its place',
  EPERM: 'permission denied',
  ENOENT: 'nothing can be made there',
  ENOSPC: 'the disk is full',
  ENOTDIR: 'a file is in its place',
  EROFS: 'the disk is mounted read-only',
}

/** Why something cannot be made on a disk, in words. */
export function reasonOf(error: unknown): string {
  return reasons[codeOf(error)] ?? String(error)
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : ''
}
