import { execFile } from 'node:child_process'
import { access, mkdir } from 'node:fs/promises'
import { join, relative, resolve } from 'node:path'
import { promisify } from 'node:util'

const root = resolve(import.meta.dirname, '../..')
const mountPoint = '/run/edgemesh-public'

/**
 * A path by which every user can reach a file of this repository, also where the clone lies in a folder that only root
 * may enter. Works under scripts/isolated, with whose namespace the mount goes.
 */
export async function publicPathOf(path: string): Promise<string> {
  const isMounted = await access(join(mountPoint, 'package.json')).then(
    () => true,
    () => false,
  )
  if (!isMounted) {
    await mkdir(mountPoint, { recursive: true, mode: 0o755 })
    await promisify(execFile)('mount', ['--bind', root, mountPoint])
  }
  return join(mountPoint, relative(root, path))
}
