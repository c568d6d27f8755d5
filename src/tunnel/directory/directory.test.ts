import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import { type Identity, loadIdentity } from '../identity/identity.ts'
import { openRecord, type SignedRecord, signRecord } from '../records/name-record.ts'
import { RecordBook } from '../records/record-book.ts'
import { DirectoryServer } from './directory-server.ts'
import { DirectoryRefusedError, runDirectorySession } from './directory-session.ts'
import { inPieces } from './messages.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-directory-'))
const books: RecordBook[] = []
after(async () => {
  // They write what they know a moment later.
  for (const book of books) await book[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true })
})

const never = new AbortController().signal
let folders = 0

async function openBook(): Promise<RecordBook> {
  folders += 1
  const stateDir = join(root, `${folders}`)
  const book = await RecordBook.open({ stateDir, logger: silentLogger, metrics: createMetrics() })
  books.push(book)
  return book
}

interface TestServer extends AsyncDisposable {
  readonly directory: DirectoryServer
  readonly book: RecordBook
  /** Reasons for which connections were ended, with their peers. */
  readonly aborted: string[]
}

async function startServer(...records: readonly string[]): Promise<TestServer> {
  const book = await openBook()
  for (const record of records) await book.offer(record)
  const tasks = new TaskGroup((_name, error) => assert.fail(String(error)))
  const directory = new DirectoryServer({ book, tasks, logger: silentLogger, debounceMs: 1 })
  return {
    directory,
    book,
    aborted: [],
    async [Symbol.asyncDispose]() {
      await tasks[Symbol.asyncDispose]()
      await book[Symbol.asyncDispose]()
    },
  }
}

async function signed(identity: Identity, name: string, sequence = 1): Promise<SignedRecord> {
  const record = { name, peerId: identity.peerId, role: 'agent', sequence, addresses: [], time: 1 } as const
  return await signRecord(record, identity.privateKey)
}

function connect({ directory, aborted }: TestServer, peerId: string): ByteStream {
  const [near, far] = createMemoryStreamPair()
  near.on('error', () => {})
  far.on('error', () => {})
  const abort = (reason: Error) => {
    aborted.push(`${peerId}: ${reason.message}`)
    far.destroy(reason)
  }
  directory.accept(far, { peerId, address: 'memory', abort })
  return near
}

/** An agent's side of a session. */
async function enter(server: TestServer, name: string, identity: Identity) {
  const book = await openBook()
  let own = await signed(identity, name)
  let tell = () => {}
  const connected = new Set<string>()
  const stop = new AbortController()
  const stream = connect(server, identity.peerId)
  const session = runDirectorySession(
    {
      stream,
      book,
      ownRecord: () => own,
      onOwnRecord: (listener) => {
        tell = listener
        return { [Symbol.dispose]() {} }
      },
      connected,
      onPresence: () => {},
    },
    stop.signal,
  )
  session.catch(() => {})
  return {
    book,
    connected,
    session,
    leave() {
      stop.abort(new Error('left'))
      stream.destroy()
    },
    async renew(sequence: number) {
      own = await signed(identity, name, sequence)
      tell()
    },
  }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!holds()) {
    assert.ok(Date.now() < deadline, `not within 5 s: ${holds}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}

const [one, two] = await Promise.all(['one', 'two'].map((name) => loadIdentity(join(root, name))))
assert.ok(one !== undefined && two !== undefined)

test('agents learn the records of others, who is connected, what changes, and who leaves', async () => {
  await using server = await startServer()
  const a = await enter(server, 'edge-a', one)
  const b = await enter(server, 'edge-b', two)
  await until(() => a.connected.has('edge-b') && b.connected.has('edge-a'))
  await until(() => a.book.recordOf('edge-b') !== undefined && b.book.recordOf('edge-a') !== undefined)
  await b.renew(5)
  await until(() => a.book.recordOf('edge-b')?.record.sequence === 5)
  b.leave()
  await assert.rejects(b.session, { message: 'left' })
  await until(() => !a.connected.has('edge-b'))
  assert.notEqual(a.book.recordOf('edge-b'), undefined)
  a.leave()
})

test('a record of another identity than the connection is refused', async () => {
  await using server = await startServer()
  const stream = connect(server, two.peerId)
  await writeFrame(stream, { type: 'hello', record: (await signed(one, 'edge-a')).encoded, known: {} }, never)
  assert.deepEqual(await readFrame(stream, 10_000, never), {
    type: 'refused',
    reason: 'the record is of another identity than the connection',
  })
  assert.deepEqual(server.book.records, [])
})

test('a name that is taken is refused, and the agent is told the remedy', async () => {
  await using server = await startServer()
  await server.book.offer((await signed(one, 'edge-a')).encoded)
  const impostor = await enter(server, 'edge-a', two)
  await assert.rejects(impostor.session, (error) => {
    assert.ok(error instanceof DirectoryRefusedError)
    assert.match(error.message, /belongs to another identity here.*edgemesh unpin edge-a/)
    return true
  })
})

test('a node that comes back on a new connection replaces its old one', async () => {
  await using server = await startServer()
  const first = await enter(server, 'edge-a', one)
  await until(() => first.connected.has('edge-a'))
  const second = await enter(server, 'edge-a', one)
  await until(() => second.connected.has('edge-a'))
  assert.deepEqual(server.aborted, [`${one.peerId}: replaced by a newer connection of the same node`])
  assert.deepEqual(server.directory.connected, ['edge-a'])
})

test('what an agent knows already is not sent again', async () => {
  const old = (await signed(two, 'edge-b', 7)).encoded
  await using server = await startServer(old)
  const stream = connect(server, one.peerId)
  const record = (await signed(one, 'edge-a')).encoded
  await writeFrame(stream, { type: 'hello', record, known: { 'edge-b': 7, 'edge-a': 1 } }, never)
  // News of edge-b come after all that the agent may get for its hello.
  const b = await enter(server, 'edge-b', two)
  await until(() => b.connected.has('edge-a'))
  await b.renew(8)
  const news = (await signed(two, 'edge-b', 8)).encoded
  for (;;) {
    const frame = await readFrame(stream, 10_000, never)
    assert.ok(typeof frame === 'object' && frame !== null && 'type' in frame)
    if (!('records' in frame) || !Array.isArray(frame.records)) continue
    assert.ok(!frame.records.includes(old))
    if (frame.records.includes(news)) return
  }
})

test('a first message that is no hello ends the session', async () => {
  await using server = await startServer()
  const stream = connect(server, one.peerId)
  await writeFrame(stream, { type: 'record', record: (await signed(one, 'edge-a')).encoded }, never)
  await assert.rejects(readFrame(stream, 10_000, never), { code: 'ECONNRESET' })
})

test('a list is cut into pieces that hold all of it', () => {
  assert.deepEqual(inPieces([1, 2, 3, 4, 5], 2), [[1, 2], [3, 4], [5]])
  assert.deepEqual(inPieces([], 2), [])
})

test('an agent that does not read is told each name once when it can listen again', async () => {
  await using server = await startServer()
  const stream = connect(server, one.peerId)
  await writeFrame(stream, { type: 'hello', record: (await signed(one, 'edge-a')).encoded, known: {} }, never)
  const b = await enter(server, 'edge-b', two)
  await until(() => b.connected.has('edge-a'))
  // Each record is new to everybody, and together they are more than a stream holds.
  const last = 400
  for (let sequence = 2; sequence <= last; sequence++) {
    await b.renew(sequence)
    await until(() => server.book.recordOf('edge-b')?.record.sequence === sequence)
  }
  const sequences: number[] = []
  while (sequences.at(-1) !== last) {
    const frame = await readFrame(stream, 1_000_000, never)
    assert.ok(typeof frame === 'object' && frame !== null)
    if (!('records' in frame) || !Array.isArray(frame.records)) continue
    const opened = await Promise.all(frame.records.map((encoded) => openRecord(encoded)))
    sequences.push(...opened.filter(({ record }) => record.name === 'edge-b').map(({ record }) => record.sequence))
  }
  assert.deepEqual(
    sequences,
    [...new Set(sequences)].sort((left, right) => left - right),
  )
  assert.ok(sequences.length < last, 'nothing was left out')
})
