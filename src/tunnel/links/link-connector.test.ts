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
function createConnector(t: TestContext, peer?: { readonly isStranded: boolean }) {
  const tasks = new TaskGroup(() => {})
  t.after(() => tasks[Symbol.asyncDispose]())
  let fail: (reason: Error) => void = () => {}
  const asked: string[] = []
  const connection = {
    id: '1',
    peerId: 'peer',
    isOutbound: false,
    relayPeerId: undefined,
    openStream: (protocol: string, signal: AbortSignal) => {
      asked.push(protocol)
      const { promise, reject } = Promise.withResolvers<never>()
      fail = reject
      signal.addEventListener('abort', () => reject(signal.reason))
      return promise
    },
  } as unknown as PeerConnection
  const connector = new LinkConnector({
    host: { peerId: 'we' } as Host,
    table: { peer: () => peer && { ...peer, usable: () => [], best: () => undefined } } as unknown as LinkTable,
    tasks,
    bestConnection: () => connection,
    pathOf: () => 'direct',
    pathFrom: () => 'direct',
    logger: silentLogger,
  })
  return { connector, asked, fail: () => fail(new Error('the peer speaks no links')) }
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

for (const isStranded of [true, false]) {
  test(`a peer that was asked in vain is asked again ${isStranded ? 'soon while flows wait for a link' : 'ever less often'}`, async (t) => {
    let nowMs = 1000
    t.mock.method(performance, 'now', () => nowMs)
    const { connector, asked, fail } = createConnector(t, { isStranded })
    for (let second = 0; second < 12; second++) {
      connector.want('peer', 'shared')
      const settled = connector.attemptSettled('peer', never)
      fail()
      await settled
      nowMs += 1000
    }
    assert.equal(asked.length > 10, isStranded, `${asked.length} times`)
  })
}

/** How long flows wait for an attempt that neither succeeds nor fails, to the nearest step. */
async function waitFor(t: TestContext, connector: LinkConnector): Promise<number> {
  let isOver = false
  const waiting = connector.attemptSettled('peer', never).then(() => {
    isOver = true
  })
  for (let stepMs = 50; stepMs <= 5000; stepMs += 50) {
    t.mock.timers.tick(50)
    await new Promise((resolve) => setImmediate(resolve))
    if (!isOver) continue
    await waiting
    return stepMs
  }
  return assert.fail('flows wait for ever')
}

test('flows wait for the first link as long as a long line needs, for a moment when the last attempt failed', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let nowMs = 1000
  t.mock.method(performance, 'now', () => nowMs)
  const { connector, fail } = createConnector(t)
  connector.want('peer', 'shared')
  const firstMs = await waitFor(t, connector)
  assert.ok(firstMs >= 1000 && firstMs <= 1500, `${firstMs} ms`)
  const settled = connector.attemptSettled('peer', never)
  fail()
  await settled
  await new Promise((resolve) => setImmediate(resolve))
  nowMs += 10_000
  t.mock.timers.tick(10_000)
  connector.want('peer', 'shared')
  const nextMs = await waitFor(t, connector)
  assert.ok(nextMs <= 100, `${nextMs} ms`)
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
