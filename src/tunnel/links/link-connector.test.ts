import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { LinkConnector } from './link-connector.ts'
import type { LinkTable } from './link-table.ts'

const never = new AbortController().signal

/** A connector that asks a peer to dial, whose answer is the test's. */
function createConnector(t: TestContext) {
  const tasks = new TaskGroup(() => {})
  t.after(() => tasks[Symbol.asyncDispose]())
  const { promise, reject } = Promise.withResolvers<never>()
  const asked: string[] = []
  const connection = {
    id: '1',
    peerId: 'peer',
    isOutbound: false,
    relayPeerId: undefined,
    openStream: (protocol: string, signal: AbortSignal) => {
      asked.push(protocol)
      signal.addEventListener('abort', () => reject(signal.reason))
      return promise
    },
  } as unknown as PeerConnection
  const connector = new LinkConnector({
    host: { peerId: 'we' } as Host,
    table: { peer: () => undefined } as unknown as LinkTable,
    tasks,
    bestConnection: () => connection,
    pathOf: () => 'direct',
    pathFrom: () => 'direct',
    logger: silentLogger,
  })
  return { connector, asked, fail: () => reject(new Error('the peer speaks no links')) }
}

test('nobody waits for a link that is not being made', async (t) => {
  const { connector } = createConnector(t)
  await connector.attemptSettled('peer', never)
})

test('those who wait for a link go on when the attempt fails, and none is made again at once', async (t) => {
  const { connector, asked, fail } = createConnector(t)
  connector.want('peer', 'shared')
  connector.want('peer', 'shared')
  const waiting = connector.attemptSettled('peer', never)
  fail()
  await waiting
  connector.want('peer', 'shared')
  await connector.attemptSettled('peer', never)
  assert.equal(asked.length, 1)
})

test('an attempt that takes long is waited for no more than a moment', async (t) => {
  const { connector } = createConnector(t)
  connector.want('peer', 'shared')
  await connector.attemptSettled('peer', never)
})

test('other kinds of links are not waited for', async (t) => {
  const { connector } = createConnector(t)
  connector.want('peer', 'bulk')
  await connector.attemptSettled('peer', AbortSignal.abort())
})

test('who gives up meanwhile learns so', async (t) => {
  const { connector } = createConnector(t)
  connector.want('peer', 'shared')
  await assert.rejects(connector.attemptSettled('peer', AbortSignal.abort(new Error('gone'))), /gone/)
})
