import assert from 'node:assert/strict'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { FolderError, makeFolder } from './make-folder.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-folder-'))
after(() => rm(root, { recursive: true, force: true }))

test('a folder is made with those above it, and only the last one is private', async () => {
  await makeFolder(join(root, 'a', 'b'), 0o700)
  assert.equal((await stat(join(root, 'a', 'b'))).mode & 0o777, 0o700)
  assert.equal((await stat(join(root, 'a'))).mode & 0o777, 0o755)
  await makeFolder(join(root, 'a', 'b'), 0o700)
})

test('two that make the same folder at once both succeed', async () => {
  await Promise.all([1, 2, 3, 4].map(() => makeFolder(join(root, 'x', 'y', 'z'), 0o755)))
})

test('a file in the way is named, with what to do', async () => {
  const file = join(root, 'file')
  await writeFile(file, '')
  for (const path of [file, join(file, 'below')]) {
    await assert.rejects(makeFolder(path, 0o755), (error) => {
      assert.ok(error instanceof FolderError)
      assert.match(error.message, /^Cannot use the folder \/.*file.*: (it is a file|a file is in its place)$/)
      assert.match(error.remedy, /writable disk/)
      return true
    })
  }
})

test('where the system makes no folders it ends with an error instead of trying for ever', async () => {
  await assert.rejects(makeFolder('/proc/edgemesh/state', 0o755), /Cannot use the folder \/proc\/edgemesh: /)
})
