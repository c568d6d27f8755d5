import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { loadNativeAddon, NativeAddonError } from './native-addon.ts'

const prebuilds = fileURLToPath(new URL('../../node_modules/netlink/prebuilds', import.meta.url))
const bytes = readFileSync(join(prebuilds, `linux-${process.arch}`, 'node.napi.node'))

suite('a native addon given as bytes', () => {
  let folder = ''
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'edgemesh-addon-'))
  })
  after(() => rmSync(folder, { recursive: true }))

  test('is loaded from the first folder that works, and leaves no file', () => {
    const addon = loadNativeAddon('netlink', bytes, [join(folder, 'missing'), folder])
    assert.equal(typeof Reflect.get(Object(addon), 'NativeNetlink'), 'function')
    assert.deepEqual(readdirSync(folder), [])
  })

  test('that loads nowhere fails with each folder, what failed there, and the remedy', () => {
    const file = join(folder, 'file')
    writeFileSync(file, '')
    assert.throws(
      () => loadNativeAddon('netlink', new Uint8Array([1, 2, 3]), [file, folder]),
      (error) => {
        assert.ok(error instanceof NativeAddonError)
        assert.match(error.message, /^Cannot load netlink from any folder: .*file: ENOTDIR.*; .*: .*netlink\.node/)
        assert.match(error.remedy, /EDGEMESH_ADDON_DIR/)
        return true
      },
    )
    assert.deepEqual(readdirSync(folder), ['file'])
  })
})
