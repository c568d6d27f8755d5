import { constants } from 'node:fs'
import { open, readFile, rename, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { makeFolder, reasonOf } from './make-folder.ts'

/** A file of the state cannot be written; the old content stays. */
export class StateFileError extends Error {
  override readonly name = 'StateFileError'
  readonly code = 'EDGEMESH_STATE_FILE'
  readonly remedy = 'free space on the disk, or name a folder on another one that this user may write to (stateDir)'

  constructor(path: string, cause: unknown) {
    super(`Cannot write ${path}: ${reasonOf(cause)}`, { cause })
  }
}

/**
 * Replaces a file so that a reader, also one after a power cut, sees the old content or the new one and never a part.
 * The file is readable by its owner only; the folder is made when it is missing. When it rejects, for example because
 * the disk is full, the old content stays and nothing else is left.
 */
export async function writeFileAtomically(path: string, content: string | Uint8Array): Promise<void> {
  const folder = dirname(path)
  await makeFolder(folder, 0o700)
  const temporary = `${path}.new`
  // One left by a crash may have other permissions, which open() would keep.
  await unlink(temporary).catch(ignoreMissing)
  try {
    await writeDurably(temporary, content)
    await rename(temporary, path)
  } catch (error) {
    // A part of a file would keep space that a full disk does not have.
    await unlink(temporary).catch(() => {})
    throw new StateFileError(path, error)
  }
  await syncFolder(folder)
}

/** The text of a file; undefined when it does not exist. */
export async function readFileIfExists(path: string): Promise<string | undefined> {
  return (await readBytesIfExists(path))?.toString('utf8')
}

/** The bytes of a file; undefined when it does not exist. */
export async function readBytesIfExists(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path)
  } catch (error) {
    ignoreMissing(error)
    return undefined
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error
}

async function writeDurably(path: string, content: string | Uint8Array): Promise<void> {
  const file = await open(path, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o600)
  try {
    await file.writeFile(content)
    await file.sync()
  } finally {
    await file.close()
  }
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
