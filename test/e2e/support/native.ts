/** Our own native addon for what runs from the sources, without an executable around it. */
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { loadNativeAddon } from '../../../src/linux/native-addon.ts'
import { type NativeFunctions, parseNativeFunctions } from '../../../src/linux/native-functions.ts'

const built = resolve(import.meta.dirname, '../../../.cache/build')

/** Loads what the build has compiled (`node scripts/build.ts --host`). */
export function loadBuiltNative(): NativeFunctions {
  const bytes = readFileSync(join(built, `edgemesh-${process.arch}.node`))
  return parseNativeFunctions(loadNativeAddon('edgemesh', bytes, [tmpdir()]))
}
