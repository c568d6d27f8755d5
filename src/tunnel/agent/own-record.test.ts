import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { loadIdentity } from '../identity/identity.ts'
import { openRecord, signRecord } from '../records/name-record.ts'
import { RecordBook } from '../records/record-book.ts'
import { OwnRecord } from './own-record.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-own-'))
after(() => rm(root, { recursive: true, force: true }))

async function setUp(name: string) {
  const stateDir = join(root, name)
  const book = await RecordBook.open({ stateDir, logger: silentLogger, metrics: createMetrics() })
  const identity = await loadIdentity(stateDir)
  return { book, options: { name: 'edge-a', role: 'agent', identity, book, logger: silentLogger } as const }
}

test('the own record is signed, and is in the book before anybody can claim the name', async () => {
  const { book, options } = await setUp('signed')
  await using _book = book
  const own = await OwnRecord.create(options, ['/ip4/10.0.0.1/tcp/1'])
  assert.deepEqual((await openRecord(own.current.encoded)).record, own.current.record)
  assert.equal(book.recordOf('edge-a')?.encoded, own.current.encoded)
})

test('the sequence grows at each start, also with a clock that was set back', async () => {
  const { book, options } = await setUp('clock')
  await using _book = book
  const future = Date.now() + 1_000_000_000
  const { identity, name, role } = options
  const earlier = { name, role, peerId: identity.peerId, sequence: future, addresses: [], time: future }
  await book.offer((await signRecord(earlier, identity.privateKey)).encoded)
  const own = await OwnRecord.create(options, [])
  assert.equal(own.current.record.sequence, future + 1)
})

test('new addresses make a new record and tell the listeners; the same ones do not', async () => {
  const { book, options } = await setUp('update')
  await using _book = book
  const own = await OwnRecord.create(options, ['/ip4/10.0.0.1/tcp/1'])
  const first = own.current.record
  let told = 0
  using _subscription = own.onChange(() => {
    told += 1
  })
  await own.update(['/ip4/10.0.0.1/tcp/1'])
  assert.equal(told, 0)
  await own.update(['/ip4/10.0.0.2/tcp/1'])
  assert.equal(told, 1)
  assert.ok(own.current.record.sequence > first.sequence)
  assert.deepEqual(own.current.record.addresses, ['/ip4/10.0.0.2/tcp/1'])
})

test('a new identity takes over the own name in the own book', async () => {
  const { book, options } = await setUp('renewed')
  await using _book = book
  await OwnRecord.create(options, [])
  const identity = await loadIdentity(join(root, 'another'))
  const own = await OwnRecord.create({ ...options, identity }, [])
  assert.equal(book.recordOf('edge-a')?.record.peerId, identity.peerId)
  assert.equal(own.current.record.peerId, identity.peerId)
})

test('a node that was given another name goes on counting, and keeps its identity', async () => {
  const { book, options } = await setUp('renamed')
  await using _book = book
  const first = await OwnRecord.create(options, ['/ip4/10.0.0.1/tcp/1'])
  const own = await OwnRecord.create({ ...options, name: 'edge-z' }, ['/ip4/10.0.0.1/tcp/1'])
  assert.ok(own.current.record.sequence > first.current.record.sequence)
  assert.equal(book.nameOf(options.identity.peerId), 'edge-z')
  assert.equal(book.recordOf('edge-a'), undefined)
})
