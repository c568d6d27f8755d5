import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { FolderWatch, fileVersionOf, folderIdentityOf } from './folder-watch.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-folder-watch-'))
after(() => rm(root, { recursive: true, force: true }))

const never = new AbortController().signal
/** Long enough that only file events can end a wait. */
const hourMs = 3_600_000
let folders = 0

async function createFolder(): Promise<string> {
  folders += 1
  const directory = join(root, `${folders}`)
  await mkdir(directory)
  return directory
}

/** A watch on a folder that has told the change with which it begins. */
async function startWatch(directory: string, pollMs = hourMs): Promise<FolderWatch> {
  const watch = new FolderWatch(directory, pollMs)
  watch.follow(await folderIdentityOf(directory))
  await watch.changed(never)
  return watch
}

test('a folder may have changed before it was watched, so the first answer comes at once', async () => {
  using _watch = await startWatch(await createFolder())
})

test('a write, a rename over a file and the swap of a link each tell', async () => {
  const directory = await createFolder()
  using watch = await startWatch(directory)
  const changes = [
    () => writeFile(join(directory, 'file'), 'one'),
    async () => {
      await writeFile(join(root, 'draft'), 'two')
      await rename(join(root, 'draft'), join(directory, 'file'))
    },
    async () => {
      await symlink('nowhere', join(directory, 'draft'))
      await rename(join(directory, 'draft'), join(directory, '..data'))
    },
    () => rm(join(directory, 'file')),
  ]
  for (const change of changes) {
    const changed = watch.changed(never)
    await change()
    await changed
  }
})

test('without any event it is time to look again after the poll interval', async () => {
  using watch = await startWatch(await createFolder(), 1)
  await watch.changed(never)
})

test('a folder that was replaced is watched once its new identity is followed', async () => {
  const directory = await createFolder()
  using watch = await startWatch(directory)
  const before = await folderIdentityOf(directory)
  await rename(directory, `${directory}-old`)
  await mkdir(directory)
  const identity = await folderIdentityOf(directory)
  assert.notEqual(identity, before)
  watch.follow(identity)
  await watch.changed(never)
  const changed = watch.changed(never)
  await writeFile(join(directory, 'file'), '')
  await changed
})

test('waiting ends when the signal aborts, also while there is no folder', async () => {
  using watch = new FolderWatch(join(root, 'absent'), hourMs)
  watch.follow(undefined)
  const stop = new AbortController()
  const changed = watch.changed(stop.signal)
  stop.abort(new Error('enough'))
  await assert.rejects(changed, /enough/)
})

test('the version of a file changes with its content and with where its link leads', async () => {
  const directory = await createFolder()
  const [one, two, link] = ['one', 'two', 'link'].map((name) => join(directory, name)) as [string, string, string]
  await writeFile(one, 'content')
  await writeFile(two, 'content')
  await symlink('one', link)
  const first = await fileVersionOf(link)
  assert.equal(await fileVersionOf(link), first)
  await writeFile(one, 'longer content')
  const second = await fileVersionOf(link)
  assert.notEqual(second, first)
  await symlink('two', `${link}-draft`)
  await rename(`${link}-draft`, link)
  assert.notEqual(await fileVersionOf(link), second)
  assert.equal(await fileVersionOf(directory), undefined)
  await assert.rejects(fileVersionOf(join(directory, 'absent')), { code: 'ENOENT' })
})
