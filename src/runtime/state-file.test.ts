import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { readBytesIfExists, readFileIfExists, type StateFileError, writeFileAtomically } from './state-file.ts'

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'edgemesh-state-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test('a written file holds what was given, for its owner only, and nothing else is left', async () => {
  const path = join(folder, 'new', 'state')
  await writeFileAtomically(path, 'one')
  await writeFileAtomically(path, new Uint8Array([0, 255, 10]))
  assert.deepEqual([...((await readBytesIfExists(path)) ?? [])], [0, 255, 10])
  await writeFileAtomically(path, 'two ü')
  assert.equal(await readFileIfExists(path), 'two ü')
  assert.equal(statSync(path).mode & 0o777, 0o600)
  assert.equal(statSync(join(folder, 'new')).mode & 0o777, 0o700)
  assert.deepEqual(readdirSync(join(folder, 'new')), ['state'])
})

test('what a crash has left, or someone has put there, is neither kept nor followed', async () => {
  const path = join(folder, 'state')
  writeFileSync(join(folder, 'elsewhere'), 'untouched', { mode: 0o666 })
  symlinkSync(join(folder, 'elsewhere'), `${path}.new`)
  await writeFileAtomically(path, 'one')
  assert.equal(await readFileIfExists(join(folder, 'elsewhere')), 'untouched')
  assert.equal(await readFileIfExists(path), 'one')
})

test('a file that cannot take its place leaves the old state and nothing beside it', async () => {
  const path = join(folder, 'state')
  mkdirSync(join(path, 'in the way'), { recursive: true })
  await assert.rejects(writeFileAtomically(path, 'one'), (error: StateFileError) => {
    assert.equal(error.message, `Cannot write ${path}: a folder is in its place`)
    assert.match(error.remedy, /free space on the disk/)
    return Object(error.cause).code === 'EISDIR'
  })
  assert.deepEqual(readdirSync(folder), ['state'])
})

test('a file that does not exist reads as undefined; any other trouble rejects', async () => {
  assert.equal(await readFileIfExists(join(folder, 'none')), undefined)
  assert.equal(await readBytesIfExists(join(folder, 'none')), undefined)
  await assert.rejects(readFileIfExists(folder), { code: 'EISDIR' })
})
