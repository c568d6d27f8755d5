import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'

/** A native addon could not be loaded from any folder; the message names each folder and what failed there. */
export class NativeAddonError extends Error {
  override readonly name = 'NativeAddonError'
  readonly code = 'EDGEMESH_NATIVE_ADDON'
  readonly exitCode = 71
  readonly remedy = 'set EDGEMESH_ADDON_DIR to a folder on a mount without noexec'
}

const stateFolder = '/var/lib/edgemesh'

/** Loads an addon that the executable carries for its own architecture (scripts/build.ts). */
export function loadEmbeddedAddon(name: string): unknown {
  const { getRawAsset } = process.getBuiltinModule('node:sea')
  return loadNativeAddon(name, new Uint8Array(getRawAsset(`${name}.node`)), addonFolders())
}

/**
 * Loads an addon given its bytes. The dynamic linker loads from files only, and not from mounts with `noexec` (often
 * /run and /tmp), so the folders are tried in turn; the file is deleted as soon as it is mapped.
 */
export function loadNativeAddon(name: string, bytes: Uint8Array, folders: readonly string[]): unknown {
  const failures: string[] = []
  for (const folder of folders) {
    try {
      return loadFrom(folder, name, bytes)
    } catch (error) {
      failures.push(`${folder}: ${reasonOf(error)}`)
    }
  }
  throw new NativeAddonError(`Cannot load ${name} from any folder: ${failures.join('; ')}`)
}

/** Where addons are tried: the operator's choice, memory, the state folder, the temporary folder. */
function addonFolders(): string[] {
  const chosen = process.env['EDGEMESH_ADDON_DIR']
  const usual = ['/dev/shm', stateFolder, tmpdir(), '/run']
  return chosen === undefined || chosen === '' ? usual : [chosen, ...usual]
}

function loadFrom(folder: string, name: string, bytes: Uint8Array): unknown {
  if (folder === stateFolder) mkdirSync(folder, { recursive: true, mode: 0o700 })
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
  return message.includes('failed to map segment') ? 'it is mounted noexec' : message
}
