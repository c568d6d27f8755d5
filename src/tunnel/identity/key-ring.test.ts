import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, beforeEach, test } from 'node:test'
import { type LogFields, type Logger, silentLogger } from '../../observability/index.ts'
import { KeyRing } from './key-ring.ts'
import { preSharedKeyOf } from './pre-shared-key.ts'

const folder = await mkdtemp(join(tmpdir(), 'edgemesh-keys-'))
after(() => rm(folder, { recursive: true, force: true }))
const path = join(folder, 'psk')
const previousPath = join(folder, 'psk.previous')
const lines: string[] = []
const note = (_fields: LogFields, message: string) => void lines.push(message)
const logger: Logger = { ...silentLogger, info: note, error: note }
const keyOf = (text: string) => preSharedKeyOf(Buffer.from(text))

beforeEach(async () => {
  lines.length = 0
  await writeFile(path, 'one')
  await writeFile(previousPath, 'zero')
})

test('a ring of one file has one key', async () => {
  const ring = await KeyRing.open({ path, previousPath: '' })
  assert.deepEqual([ring.current, ring.previous, ring.all.length], [keyOf('one'), undefined, 1])
})

test('during a rotation the key before is the second', async () => {
  const ring = await KeyRing.open({ path, previousPath })
  assert.deepEqual(ring.all, [keyOf('one'), keyOf('zero')])
})

test('two files with the same key are one key: a rotation begins so', async () => {
  await writeFile(previousPath, 'one')
  const ring = await KeyRing.open({ path, previousPath })
  assert.deepEqual(ring.all, [keyOf('one')])
})

test('a ring follows its files, and says so once', async () => {
  const ring = await KeyRing.open({ path, previousPath })
  await ring.look(logger)
  await writeFile(path, 'a longer one')
  await ring.look(logger)
  await ring.look(logger)
  assert.deepEqual(ring.all, [keyOf('a longer one'), keyOf('zero')])
  assert.deepEqual(lines, ['pre-shared key reloaded'])
})

test('a file that is written again with the same key is no news', async () => {
  const ring = await KeyRing.open({ path, previousPath: '' })
  await writeFile(path, 'one')
  await ring.look(logger)
  assert.deepEqual(lines, [])
})

test('a file that is gone or empty leaves the keys in force and is named once', async () => {
  const ring = await KeyRing.open({ path, previousPath })
  await rm(previousPath)
  await ring.look(logger)
  await ring.look(logger)
  assert.deepEqual(ring.all, [keyOf('one'), keyOf('zero')])
  assert.deepEqual(lines, ['pre-shared key not reloaded; the one in force stays'])
  await writeFile(previousPath, 'zero again')
  await ring.look(logger)
  assert.deepEqual(ring.all, [keyOf('one'), keyOf('zero again')])
})

test('other files that cannot be read are refused, and the keys stay', async () => {
  const ring = await KeyRing.open({ path, previousPath: '' })
  await assert.rejects(ring.set({ path, previousPath: join(folder, 'absent') }), { code: 'EDGEMESH_PSK' })
  assert.deepEqual(ring.all, [keyOf('one')])
  await ring.set({ path, previousPath })
  assert.equal(ring.all.length, 2)
})
