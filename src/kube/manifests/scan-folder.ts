import { lstat, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fileVersionOf, folderIdentityOf } from '../../runtime/index.ts'

/** The manifest files of a folder at one moment. */
export interface FolderScan {
  /** Changes when the folder was replaced by another one of the same name. */
  readonly identity: string
  /** By file name: text that changes whenever the content may have changed; undefined for a dangling link. */
  readonly files: ReadonlyMap<string, string | undefined>
}

const absent = 'absent'

/** Lists the manifest files; links are followed, as ConfigMap volumes are made of them. Rejects when the folder is away. */
export async function scanFolder(directory: string): Promise<FolderScan> {
  const identity = await folderIdentityOf(directory)
  const names = (await readdir(directory)).filter(isManifestName)
  const signatures = await Promise.all(names.map((name) => signatureOf(join(directory, name))))
  const files = new Map<string, string | undefined>()
  for (const [index, name] of names.entries()) {
    const signature = signatures[index]
    if (signature !== absent) files.set(name, signature)
  }
  return { identity, files }
}

function isManifestName(name: string): boolean {
  return !name.startsWith('.') && /\.(yaml|yml|json)$/.test(name)
}

async function signatureOf(path: string): Promise<string | undefined> {
  try {
    return (await fileVersionOf(path)) ?? absent
  } catch {
    // Renamed between listing and looking, which is like never listed; or a link to nothing, which is a problem.
    return (await isLink(path)) ? undefined : absent
  }
}

async function isLink(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isSymbolicLink()
  } catch {
    return false
  }
}
