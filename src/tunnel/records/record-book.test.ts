import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import type { PrivateKey } from '@libp2p/interface'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createMetrics, type LogFields, type Logger, silentLogger } from '../../observability/index.ts'
import { openAdmission } from './admission.ts'
import { passOn, signRecord } from './name-record.ts'
import { RecordBook, type RecordBookOptions } from './record-book.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-book-'))
after(() => rm(root, { recursive: true, force: true }))

const weekMs = 7 * 24 * 3600 * 1000
const [key, otherKey] = await Promise.all([generateKeyPair('Ed25519'), generateKeyPair('Ed25519')])
const peerId = peerIdFromPrivateKey(key).toString()
const otherPeerId = peerIdFromPrivateKey(otherKey).toString()

async function recordOf(name: string, sequence: number, by: PrivateKey = key): Promise<string> {
  const signer = peerIdFromPrivateKey(by).toString()
  const addresses = [`/ip4/10.0.0.1/tcp/${sequence}`]
  const signed = await signRecord({ name, peerId: signer, role: 'agent', sequence, addresses, time: 1 }, by)
  return signed.encoded
}

let folders = 0
async function openBook(options: Partial<RecordBookOptions> = {}): Promise<RecordBook> {
  folders += 1
  const stateDir = options.stateDir ?? join(root, String(folders))
  return await RecordBook.open({ logger: silentLogger, metrics: createMetrics(), ...options, stateDir })
}

test('the newest record of a name counts, whatever the order of arrival', async () => {
  await using book = await openBook()
  assert.equal(await book.offer(await recordOf('a', 2)), 'accepted')
  assert.equal(await book.offer(await recordOf('a', 1)), 'stale')
  assert.equal(await book.offer(await recordOf('a', 2)), 'known')
  assert.equal(book.recordOf('a')?.record.sequence, 2)
  assert.equal(await book.offer(await recordOf('a', 3)), 'accepted')
  assert.equal(book.recordOf('a')?.record.sequence, 3)
  assert.equal(book.nameOf(peerId), 'a')
})

test('what the disk could not take is told once, and written as soon as it can', async (t) => {
  const stateDir = join(root, 'full')
  await writeFile(stateDir, 'a file where the folder should be')
  const lines: string[] = []
  const note = (_fields: LogFields, message: string) => void lines.push(message)
  await using book = await openBook({ stateDir, logger: { ...silentLogger, warn: note, info: note }, retryMs: 1 })
  assert.match(lines.shift() ?? '', /^stored peers cannot be read/)
  await book.offer(await recordOf('a', 1))
  await t.waitFor(() => assert.deepEqual(lines, ['peers cannot be stored; trying again']))
  await book.offer(await recordOf('a', 2))
  await rm(stateDir)
  await t.waitFor(() => assert.deepEqual(lines.slice(1), ['peers are stored again']))
  assert.match(await readFile(join(stateDir, 'peers.json'), 'utf8'), /"pins":{"a":/)
})

test('a damaged book that cannot be set aside keeps nobody from starting', async () => {
  const stateDir = join(root, 'stuck')
  await mkdir(join(stateDir, 'peers.json.damaged', 'full'), { recursive: true })
  await writeFile(join(stateDir, 'peers.json'), 'no JSON')
  const remedies: unknown[] = []
  const logger: Logger = { ...silentLogger, warn: ({ remedy }) => void remedies.push(remedy) }
  await using book = await openBook({ stateDir, logger })
  assert.match(String(remedies[0]), /the damaged file stays where it is: /)
  assert.equal(await book.offer(await recordOf('a', 1)), 'accepted')
})

test('a record that is here is opened without another look at its signature, and one that only looks like it is checked', async () => {
  await using book = await openBook()
  const [first, second] = [await recordOf('a', 1), await recordOf('a', 2)]
  await book.offer(first)
  assert.equal(await book.open(first), book.recordOf('a'))
  await assert.rejects(book.open(`${first.slice(0, -4)}AAAA`), { name: 'NameRecordError' })
  await book.offer(second)
  assert.equal(await book.open(second), book.recordOf('a'))
  const old = await book.open(first)
  assert.equal(old.record.sequence, 1)
  assert.notEqual(await book.open(first), old, 'it is not kept any more')
  book.unpin('a')
  assert.notEqual(await book.open(second), await book.open(second), 'neither is one that was forgotten')
})

test('so many names have room, and those that are known stay', async () => {
  const lines: LogFields[] = []
  const logger: Logger = { ...silentLogger, error: (fields) => lines.push(fields) }
  const thirdKey = await generateKeyPair('Ed25519')
  const options = { logger, limits: { names: 2, bytes: 1e6 } }
  await using book = await openBook({ ...options, ownPeerId: peerIdFromPrivateKey(thirdKey).toString() })
  const strangerKey = await generateKeyPair('Ed25519')
  assert.equal(await book.offer(await recordOf('a', 1)), 'accepted')
  assert.equal(await book.offer(await recordOf('b', 1, otherKey)), 'accepted')
  assert.equal(await book.offer(await recordOf('c', 1, strangerKey)), 'refused')
  assert.match(lines[0]?.reason ?? '', /2 names are known already/)
  assert.equal(await book.offer(await recordOf('a', 2)), 'accepted', 'a name that is known may change')
  assert.equal(await book.offer(await recordOf('d', 1, thirdKey)), 'accepted', 'this node is always taken')
  book.unpin('b')
  book.unpin('d')
  assert.equal(await book.offer(await recordOf('c', 1, strangerKey)), 'accepted')
})

test('records have so many bytes of room together, also when they change', async () => {
  const long = async (name: string, sequence: number, addresses: number, by: PrivateKey) => {
    const signer = peerIdFromPrivateKey(by).toString()
    const list = Array.from({ length: addresses }, (_, at) => `/ip4/10.0.0.1/tcp/${10_000 + at}`)
    const record = { name, peerId: signer, role: 'agent', sequence, addresses: list, time: 1 } as const
    return (await signRecord(record, by)).encoded
  }
  const [short, longer] = [await long('a', 1, 1, key), await long('a', 2, 20, key)]
  const lines: LogFields[] = []
  const logger: Logger = { ...silentLogger, error: (fields) => lines.push(fields) }
  const bytes = longer.length + short.length
  await using book = await openBook({ logger, limits: { names: 10, bytes } })
  assert.equal(await book.offer(short), 'accepted')
  assert.equal(await book.offer(await long('b', 1, 20, otherKey)), 'accepted')
  assert.equal(await book.offer(longer), 'refused')
  assert.match(lines[0]?.reason ?? '', new RegExp(`records of other nodes take ${bytes} bytes already`))
  assert.equal(book.recordOf('a')?.record.sequence, 1)
  assert.equal(await book.offer(await long('b', 2, 1, otherKey)), 'accepted', 'a shorter one makes room')
  assert.equal(await book.offer(longer), 'accepted')
  book.unpin('b')
  book.unpin('a')
  assert.equal(await book.offer(await long('b', 3, 20, otherKey)), 'accepted')
  assert.equal(await book.offer(await long('a', 3, 1, key)), 'accepted', 'who is forgotten takes no room')
})

test('listeners hear of accepted records only', async () => {
  await using book = await openBook()
  const heard: number[] = []
  const subscription = book.onAccepted(({ sequence }) => heard.push(sequence))
  for (const sequence of [1, 1, 3, 2]) await book.offer(await recordOf('a', sequence))
  subscription[Symbol.dispose]()
  await book.offer(await recordOf('a', 4))
  assert.deepEqual(heard, [1, 3])
})

test('a name keeps its first identity: another one is refused, counted and told with both identities and the remedy', async () => {
  const lines: LogFields[] = []
  const logger: Logger = { ...silentLogger, error: (fields) => lines.push(fields) }
  const metrics = createMetrics()
  await using book = await RecordBook.open({ stateDir: join(root, 'conflict'), logger, metrics })
  await book.offer(await recordOf('a', 1))
  assert.equal(await book.offer(await recordOf('a', 9, otherKey)), 'conflict')
  assert.equal(await book.offer(await recordOf('a', 10, otherKey)), 'conflict')
  assert.equal(book.recordOf('a')?.record.peerId, peerId)
  assert.equal(lines.length, 1)
  assert.equal(lines[0]?.reason, `the name a belongs to ${peerId}, but ${otherPeerId} claims it`)
  assert.match(lines[0]?.remedy ?? '', /edgemesh unpin a"/)
  assert.match(await metrics.render(), /edgemesh_tunnel_name_conflicts_total 2/)
})

test('after unpinning, the next identity of the name is bound', async () => {
  await using book = await openBook()
  await book.offer(await recordOf('a', 5))
  assert.equal(book.unpin('a'), true)
  assert.equal(book.unpin('a'), false)
  assert.equal(book.recordOf('a'), undefined)
  assert.equal(await book.offer(await recordOf('a', 1, otherKey)), 'accepted')
  assert.equal(await book.offer(await recordOf('a', 6)), 'conflict')
})

test('names, records and server identities outlive a restart', async () => {
  const stateDir = join(root, 'restart')
  {
    await using book = await openBook({ stateDir })
    await book.offer(await recordOf('a', 7))
    book.pinServer('mesh.example:20004', otherPeerId)
  }
  await using book = await openBook({ stateDir })
  assert.equal(book.recordOf('a')?.record.sequence, 7)
  assert.equal(book.serverPinOf('mesh.example:20004'), otherPeerId)
  assert.equal(await book.offer(await recordOf('a', 6)), 'stale')
  assert.equal(await book.offer(await recordOf('a', 8, otherKey)), 'conflict')
})

test('addresses expire when nobody has heard of a node for a week; its name does not', async () => {
  let now = 0
  await using book = await openBook({ now: () => now })
  await book.offer(await recordOf('a', 1))
  now = weekMs
  assert.deepEqual(book.addressesOf('a'), ['/ip4/10.0.0.1/tcp/1'])
  now = weekMs + 1
  assert.deepEqual(book.addressesOf('a'), [])
  assert.equal(await book.offer(await recordOf('a', 2, otherKey)), 'conflict')
  book.touch('a')
  assert.deepEqual(book.addressesOf('a'), ['/ip4/10.0.0.1/tcp/1'])
})

test('a forged record changes nothing', async () => {
  await using book = await openBook()
  const forged = (await recordOf('a', 1)).replace(/.$/, (last) => (last === 'A' ? 'Q' : 'A'))
  await assert.rejects(book.offer(forged), { name: 'NameRecordError' })
  assert.deepEqual(book.records, [])
})

test('a damaged file is set aside with a warning, and the mesh goes on', async () => {
  const stateDir = join(root, 'damaged')
  await using first = await openBook({ stateDir })
  await first.offer(await recordOf('a', 1))
  await first[Symbol.asyncDispose]()
  const file = join(stateDir, 'peers.json')
  const cut = (await readFile(file, 'utf8')).slice(0, 50)
  await writeFile(file, cut)
  const warnings: string[] = []
  const logger: Logger = { ...silentLogger, warn: (_fields, message) => warnings.push(message) }
  await using second = await openBook({ stateDir, logger })
  assert.deepEqual(second.records, [])
  assert.deepEqual(warnings, ['stored peers are damaged; names will be bound anew at first contact'])
  assert.deepEqual(await readdir(stateDir), ['peers.json.damaged'])
  assert.equal(await readFile(`${file}.damaged`, 'utf8'), cut)
})

test('an identity has one name: a renamed node gives the former one up, and an old record does not bring it back', async () => {
  await using book = await openBook()
  await book.offer(await recordOf('a', 5))
  assert.equal(await book.offer(await recordOf('b', 4)), 'stale')
  assert.equal(await book.offer(await recordOf('b', 6)), 'accepted')
  assert.equal(book.nameOf(peerId), 'b')
  assert.equal(book.recordOf('a'), undefined)
  assert.equal(await book.offer(await recordOf('a', 5)), 'stale')
  assert.equal(await book.offer(await recordOf('a', 1, otherKey)), 'accepted')
})

test('a revoked node is out of sight, by name as well as by identity, and back when it is no longer revoked', async () => {
  for (const revoked of [['a'], [peerId]]) {
    await using book = await openBook()
    await book.offer(await recordOf('a', 1))
    book.setAdmission({ ...openAdmission, revoked })
    assert.deepEqual([book.recordOf('a'), book.nameOf(peerId), book.records], [undefined, undefined, []])
    assert.ok(book.revoked.has(peerId))
    assert.equal(await book.offer(await recordOf('a', 2)), 'refused')
    assert.equal(await book.offer(await recordOf('z', 3)), 'refused', 'nor under another name')
    const heard: string[] = []
    using _subscription = book.onAccepted(({ name }) => heard.push(name))
    book.setAdmission(openAdmission)
    assert.equal(book.revoked.size, 0)
    assert.deepEqual([book.nameOf(peerId), heard.at(-1)], ['z', 'z'], 'what it said last counts')
  }
})

test('revocation by name outlives a restart with the identity that the name had', async () => {
  const stateDir = join(root, 'revoked')
  {
    await using book = await openBook({ stateDir })
    await book.offer(await recordOf('a', 1))
    book.setAdmission({ ...openAdmission, revoked: ['a'] })
  }
  await using book = await openBook({ stateDir, admission: { ...openAdmission, revoked: ['a'] } })
  assert.ok(book.revoked.has(peerId))
  assert.deepEqual(book.records, [])
})

test('with trust pinned an unknown name is refused and told with the remedy, a bound one is not', async () => {
  const remedies: string[] = []
  const logger: Logger = { ...silentLogger, error: ({ remedy = '' }) => void remedies.push(remedy) }
  await using book = await openBook({ logger })
  await book.offer(await recordOf('a', 1))
  book.setAdmission({ ...openAdmission, trust: 'pinned' })
  assert.equal(await book.offer(await recordOf('a', 2)), 'accepted')
  assert.equal(await book.offer(await recordOf('b', 1, otherKey)), 'refused')
  assert.deepEqual(remedies, [`to let it join, add b: ${otherPeerId} to edgeTunnel.peers`])
  book.setAdmission({ trust: 'pinned', peers: { b: otherPeerId }, revoked: [] })
  assert.equal(book.nameOf(otherPeerId), 'b', 'what it said before counts now')
})

test('a configured identity beats the one that came first', async () => {
  await using book = await openBook()
  await book.offer(await recordOf('a', 1))
  assert.equal(await book.offer(await recordOf('a', 1, otherKey)), 'conflict')
  book.setAdmission({ ...openAdmission, peers: { a: otherPeerId } })
  assert.equal(book.recordOf('a')?.record.peerId, otherPeerId)
  assert.equal(await book.offer(await recordOf('a', 9)), 'conflict')
})

test('records that are refused are kept in bounds', async () => {
  await using book = await openBook({ admission: { ...openAdmission, trust: 'pinned' } })
  for (let count = 0; count < 1100; count++) await book.offer(await recordOf(`n${count}`, 1))
  book.setAdmission({ ...openAdmission, peers: { n0: peerId, n1099: peerId }, trust: 'pinned' })
  assert.equal(book.recordOf('n0'), undefined)
  assert.equal(book.recordOf('n1099')?.record.sequence, 1)
})

/** A record of the other identity, to which the first one has passed its name. */
async function rotatedRecordOf(name: string, sequence: number, passedOn = name): Promise<string> {
  const formerly = await passOn(passedOn, otherPeerId, { peerId, privateKey: key })
  const record = { name, peerId: otherPeerId, role: 'agent', sequence, addresses: [], formerly, time: 1 } as const
  return (await signRecord(record, otherKey)).encoded
}

test('a name that its identity passes on goes to the new one, and never back', async () => {
  await using book = await openBook()
  await book.offer(await recordOf('a', 5))
  assert.equal(await book.offer(await rotatedRecordOf('a', 5)), 'conflict', 'it is not newer')
  assert.equal(await book.offer(await rotatedRecordOf('a', 6)), 'accepted')
  assert.equal(book.recordOf('a')?.record.peerId, otherPeerId)
  assert.equal(book.nameOf(peerId), undefined)
  assert.equal(await book.offer(await recordOf('a', 9)), 'conflict')
})

test('a name that was not passed on, or by somebody else, stays', async () => {
  await using book = await openBook()
  await book.offer(await recordOf('a', 5))
  await assert.rejects(book.offer(await rotatedRecordOf('a', 6, 'b')), /has not passed the name on/)
  const thirdKey = await generateKeyPair('Ed25519')
  await using other = await openBook()
  await other.offer(await recordOf('a', 5, thirdKey))
  assert.equal(await other.offer(await rotatedRecordOf('a', 6)), 'conflict')
})

test('a revoked identity passes nothing on, nor does one that the configuration names', async () => {
  for (const rules of [{ revoked: [peerId] }, { revoked: ['a'] }, { peers: { a: peerId } }]) {
    await using book = await openBook()
    await book.offer(await recordOf('a', 5))
    book.setAdmission({ ...openAdmission, ...rules })
    const answer = await book.offer(await rotatedRecordOf('a', 6))
    assert.ok(answer !== 'accepted', answer)
  }
})
