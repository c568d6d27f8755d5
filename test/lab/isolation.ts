import { lstat, mkdir, readlink, realpath, writeFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import process from 'node:process'

/** Throws unless this process runs under scripts/isolated: a lab must never touch the machine's own network. */
export async function requireIsolation(): Promise<void> {
  const outer = process.env['EDGEMESH_LAB_OUTER_NETNS'] ?? ''
  const isInside = process.env['EDGEMESH_LAB'] === '1' && outer !== ''
  if (isInside && outer !== (await readlink('/proc/self/ns/net'))) return
  throw new Error('A lab must run in private namespaces: put scripts/isolated before the command')
}

/**
 * Makes sure that a file can be mounted over /etc/resolv.conf. On many machines it is a link into /run, which is
 * empty under scripts/isolated.
 */
export async function prepareResolverFile(): Promise<void> {
  const path = '/etc/resolv.conf'
  try {
    await realpath(path)
  } catch {
    const isLink = (await lstat(path).catch(() => undefined))?.isSymbolicLink() === true
    const target = isLink ? resolve(dirname(path), await readlink(path)) : path
    if (!target.startsWith('/run/')) throw new Error(`Cannot give hosts a resolver: ${target} does not exist`)
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, '')
  }
}
