import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { readFrame } from '../frames.ts'
import { loadIdentity } from '../identity/identity.ts'
import { type SignedRecord, signRecord } from '../records/name-record.ts'
import { RecordBook } from '../records/record-book.ts'
import { runDirectorySession } from './directory-session.ts'

const root = await mkdtemp(join(tmpdir(), 'edgemesh-directory-session-'))
const book = await RecordBook.open({ stateDir: root, logger: silentLogger, metrics: createMetrics() })
after(async () => {
  await book[Symbol.asyncDispose]()
  await rm(root, { recursive: true, force: true })
})
const identity = await loadIdentity(join(root, 'edge-a'))
assert.ok(identity !== undefined)

const patienceMs = 5_000

async function signed(sequence: number): Promise<SignedRecord> {
  const { peerId, privateKey } = identity as NonNullable<typeof identity>
  return await signRecord({ name: 'edge-a', peerId, role: 'agent', sequence, addresses: [], time: 1 }, privateKey)
}

test('the own record that is new while the server does not read follows when it does, the newest alone', async () => {
  const [near, far] = createMemoryStreamPair({ highWaterMark: 1 })
  const records = await Promise.all(Array.from({ length: 1000 }, (_, index) => signed(index + 1)))
  let [own] = records
  let tell = () => {}
  const stop = new AbortController()
  const session = runDirectorySession(
    {
      stream: near,
      book,
      ownRecord: () => own as SignedRecord,
      onOwnRecord(listener) {
        tell = listener
        return { [Symbol.dispose]() {} }
      },
      connected: new Set(),
      onPresence: () => {},
    },
    stop.signal,
  )
  const ended = assert.rejects(session, { message: 'enough' })
  for (const record of records.slice(1)) {
    own = record
    tell()
  }
  assert.ok(near.writableLength < 10_000, `${near.writableLength} bytes wait`)
  const read = async () => await readFrame(far, 100_000, AbortSignal.timeout(patienceMs))
  assert.deepEqual(await read(), { type: 'hello', record: records[0]?.encoded, known: {} })
  assert.deepEqual(await read(), { type: 'record', record: records.at(-1)?.encoded })
  own = await signed(5000)
  tell()
  assert.deepEqual(await read(), { type: 'record', record: own.encoded }, 'and nothing twice')
  stop.abort(new Error('enough'))
  await ended
})
