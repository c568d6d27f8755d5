import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import { createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { ProtocolHandler } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { type SignedRecord, signRecord } from '../records/name-record.ts'
import { RecordBook } from '../records/record-book.ts'
import { directoryFrameLimitBytes } from './messages.ts'
import { Neighbours } from './neighbours.ts'

const never = new AbortController().signal

async function signed(name: string): Promise<SignedRecord> {
  const key = await generateKeyPair('Ed25519')
  const peerId = peerIdFromPrivateKey(key).toString()
  return await signRecord({ name, peerId, role: 'agent', sequence: 1, addresses: [], time: 1 }, key)
}

/** An agent that knows itself, and what it makes of a neighbour's records. */
async function startAgent(resources: AsyncDisposableStack, { hasServer }: { hasServer: boolean }) {
  const stateDir = await mkdtemp(join(tmpdir(), 'edgemesh-neighbours-'))
  resources.defer(() => rm(stateDir, { recursive: true, force: true }))
  const book = resources.use(
    await RecordBook.open({ stateDir, logger: silentLogger, metrics: createMetrics(), now: () => 1 }),
  )
  await book.offer((await signed('self')).encoded)
  const tasks = resources.use(new TaskGroup((_name, error) => assert.fail(String(error))))
  let handler: ProtocolHandler | undefined
  const host = {
    handle: async (given: ProtocolHandler) => {
      handler = given
    },
    connections: () => [],
    onConnection: () => ({ [Symbol.dispose]() {} }),
  }
  const neighbours = new Neighbours({ host, book, tasks, hasServer: () => hasServer, logger: silentLogger })
  await neighbours.serve()
  return {
    book,
    /** Plays a neighbour that is connected in this way and has this record; resolves with the names that it gets. */
    async meet(record: SignedRecord, relayPeerId?: string): Promise<string[] | undefined> {
      const [near, far] = createMemoryStreamPair()
      near.on('error', () => {})
      far.on('error', () => {})
      const from: Partial<PeerConnection> = { peerId: record.record.peerId, relayPeerId }
      handler?.onStream(Object.assign(far, { protocol: '' }), from as PeerConnection)
      try {
        await writeFrame(near, { known: { [record.record.name]: 1 } }, never)
        const known = await readFrame(near, directoryFrameLimitBytes, never)
        await writeFrame(near, { records: [record.encoded] }, never)
        near.end()
        const told = await readFrame(near, directoryFrameLimitBytes, never)
        await readFrame(near, directoryFrameLimitBytes, never).catch(() => undefined)
        assert.deepEqual(known, { known: { self: 1 } })
        return Object(told).records
      } catch {
        return undefined
      }
    },
  }
}

test('without a server neighbours are believed, and told what they lack', async () => {
  await using resources = new AsyncDisposableStack()
  const agent = await startAgent(resources, { hasServer: false })
  assert.equal((await agent.meet(await signed('other')))?.length, 1)
  assert.equal(agent.book.recordOf('other')?.record.sequence, 1)
})

test('while a server tells of others a neighbour is told, but not believed', async () => {
  await using resources = new AsyncDisposableStack()
  const agent = await startAgent(resources, { hasServer: true })
  assert.equal((await agent.meet(await signed('other')))?.length, 1)
  assert.equal(agent.book.recordOf('other'), undefined)
})

test('only who is connected directly is a neighbour', async () => {
  await using resources = new AsyncDisposableStack()
  const agent = await startAgent(resources, { hasServer: false })
  assert.equal(await agent.meet(await signed('other'), 'a relay'), undefined)
  assert.equal(agent.book.recordOf('other'), undefined)
})
