import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'

/** A native addon could not be loaded from any folder; the message names each folder and what failed there. */
export class NativeAddonError extends Error {
  override readonly name = 'NativeAddonError'
  readonly code = 'EDGEMESH_NATIVE_ADDON'
}

/**
 * Loads an addon that is embedded in the executable, given its bytes by architecture. The dynamic linker loads from
 * files only, and not from mounts with `noexec` (often /run and /tmp), so folders are tried in turn; the file is
 * deleted as soon as it is mapped. `folders` are the places to try, best first.
 */
export function loadNativeAddon(
  name: string,
  bytesOf: Readonly<Record<string, Uint8Array>>,
  folders: readonly string[] = addonFolders(),
): unknown {
  const bytes = bytesOf[process.arch]
  if (bytes === undefined) throw new NativeAddonError(`Cannot load ${name}: no build for ${process.arch}`)
  const failures: string[] = []
  for (const folder of folders) {
    try {
      return loadFrom(folder, name, bytes)
    } catch (error) {
      failures.push(`${folder}: ${reasonOf(error)}`)
    }
  }
  throw new NativeAddonError(
    `Cannot load ${name} from any folder (${failures.join('; ')}); set EDGEMESH_ADDON_DIR to a folder on a mount without noexec`,
  )
}

/** Where addons are tried: the operator's choice, memory, the state folders, the temporary folder. */
function addonFolders(): string[] {
  const chosen = process.env['EDGEMESH_ADDON_DIR']
  const usual = ['/dev/shm', '/var/lib/edgemesh', tmpdir(), '/run']
  return chosen === undefined || chosen === '' ? usual : [chosen, ...usual]
}

function loadFrom(folder: string, name: string, bytes: Uint8Array): unknown {
  const directory = mkdtempSync(join(folder, '.edgemesh-'))
  try {
    const file = join(directory, `${name}.node`)
    writeFileSync(file, bytes, { mode: 0o700 })
    const addon = { exports: {} }
    process.dlopen(addon, file, constants.dlopen.RTLD_LAZY)
    return addon.exports
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  return message.includes('failed to map segment') ? `${message} (mounted noexec)` : message
}
