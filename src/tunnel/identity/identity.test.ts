import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { IdentityError, loadIdentity } from './identity.ts'
import { PreSharedKeyError, preSharedKeyOf, readPreSharedKey } from './pre-shared-key.ts'

const folder = await mkdtemp(join(tmpdir(), 'edgemesh-identity-'))
after(() => rm(folder, { recursive: true, force: true }))

test('the first start makes a key that only its owner can read, and later starts keep it', async () => {
  const stateDir = join(folder, 'new', 'state')
  const first = await loadIdentity(stateDir)
  assert.match(first.peerId, /^12D3KooW/)
  assert.equal((await stat(join(stateDir, 'identity.key'))).mode & 0o777, 0o600)
  assert.equal((await stat(stateDir)).mode & 0o777, 0o700)
  const second = await loadIdentity(stateDir)
  assert.equal(second.peerId, first.peerId)
})

test('two nodes have different identities', async () => {
  const [one, other] = await Promise.all(['one', 'other'].map((name) => loadIdentity(join(folder, name))))
  assert.notEqual(one?.peerId, other?.peerId)
})

for (const [what, content] of [
  ['empty', ''],
  ['not base64', 'not a key!\n'],
  ['base64 of something else', `${Buffer.from('something else').toString('base64')}\n`],
  ['cut off', 'CAESQFw5'],
] as const) {
  test(`a key file that is ${what} is an error that names file and remedy, and is left as it is`, async () => {
    const stateDir = join(folder, what)
    const file = join(stateDir, 'identity.key')
    await mkdir(stateDir)
    await writeFile(file, content)
    await assert.rejects(loadIdentity(stateDir), (error) => {
      assert.ok(error instanceof IdentityError)
      assert.ok(error.message.includes(file))
      assert.match(error.message, /restore it from a backup, or delete it.*edgemesh unpin/)
      return true
    })
    assert.equal(await readFile(file, 'utf8'), content)
  })
}

test('a key file that is a folder cannot be read, and says so', async () => {
  await mkdir(join(folder, 'odd', 'identity.key'), { recursive: true })
  await assert.rejects(loadIdentity(join(folder, 'odd')), /identity\.key: the file cannot be read/)
})

test('a temporary file left by a crash does not keep the key from being made private', async () => {
  const stateDir = join(folder, 'crashed')
  const leftover = join(stateDir, 'identity.key.new')
  await mkdir(stateDir)
  await writeFile(leftover, 'half')
  await chmod(leftover, 0o666)
  await loadIdentity(stateDir)
  assert.equal((await stat(join(stateDir, 'identity.key'))).mode & 0o777, 0o600)
})

test('the pre-shared key is the one that Go nodes make of the same file', async () => {
  const content = 'JugH9HP1XBouyO5pWGeZa8LtipDURrf17EJvUHcJGuQ='
  const key = preSharedKeyOf(Buffer.from(content))
  const expected = 'ef4d5fdb6d1b75ad1b7bc79a7b7f5e69ed77ddfdf8ddee3579de5bf35d1b7bdd'
  assert.equal(Buffer.from(key).toString('hex'), expected)
  const file = join(folder, 'psk')
  await writeFile(file, content)
  assert.equal(Buffer.from(await readPreSharedKey(file)).toString('hex'), expected)
})

test('the end of line is part of the pre-shared key file', () => {
  assert.notDeepEqual(preSharedKeyOf(Buffer.from('secret')), preSharedKeyOf(Buffer.from('secret\n')))
})

test('a missing or empty pre-shared key file is an error that says how to get one', async () => {
  await assert.rejects(readPreSharedKey(join(folder, 'absent')), (error) => {
    assert.ok(error instanceof PreSharedKeyError)
    assert.match(error.message, /absent: the file cannot be read; copy the file from another node/)
    return true
  })
  await writeFile(join(folder, 'empty-psk'), '')
  await assert.rejects(readPreSharedKey(join(folder, 'empty-psk')), /it is empty/)
})
