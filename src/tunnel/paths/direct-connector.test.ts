import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import { abortable, TaskGroup } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import type { RecordBook } from '../records/record-book.ts'
import { DirectConnector } from './direct-connector.ts'

const neighbour = '/ip4/192.0.2.9/tcp/20006'
const beside = '/ip4/192.0.2.10/tcp/20006'
const faraway = '/ip4/198.51.100.9/tcp/20006'

/** What is at an address: nobody, who answers at once, or after that many seconds. */
interface Place {
  readonly peerId?: string
  readonly afterSeconds?: number
}

/** A connector that knows `edge-b`, which never answers, and when it was dialled, in seconds. */
async function startConnector(t: TestContext, address: string, ownPeerId = 'a', answering?: string) {
  return await startAmong(t, { [address]: answering === undefined ? {} : { peerId: answering } }, ownPeerId)
}

/** The same where `edge-b` tells several addresses; who is there may change. */
async function startAmong(t: TestContext, places: Record<string, Place>, ownPeerId = 'a') {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  let nowMs = 0
  t.mock.method(performance, 'now', () => nowMs)
  const dialledAt: number[] = []
  const host: Pick<Host, 'peerId' | 'connectionsTo' | 'dial'> = {
    peerId: ownPeerId,
    connectionsTo: () => [],
    dial: async (address, signal) => {
      dialledAt.push(nowMs / 1000)
      const { peerId, afterSeconds } = places[address] ?? {}
      if (afterSeconds !== undefined) await abortable(later(afterSeconds), signal)
      if (peerId !== undefined) return { peerId, abort: () => {} } as never
      throw new Error('nobody answers')
    },
  }
  const records = [{ record: { name: 'edge-b', peerId: 'b' } }]
  const book = {
    records,
    recordOf: (name: string) => records.find(({ record }) => record.name === name),
    addressesOf: (name: string) => (name === 'edge-b' ? Object.keys(places) : []),
  }
  const tasks = new TaskGroup((_, error) => assert.fail(String(error)))
  const connector = new DirectConnector({
    ownName: 'edge-a',
    host: host as Host,
    book: book as unknown as RecordBook,
    tasks,
    interfaceAddresses: () => [{ address: '192.0.2.7', prefixLength: 24 }],
    logger: silentLogger,
    random: () => 0.5,
    pause: (ms) => later(ms / 1000),
  })
  const stop = new AbortController()
  void connector.run(stop.signal)
  t.after(async () => {
    stop.abort()
    await tasks[Symbol.asyncDispose]()
  })
  return {
    connector,
    records,
    dialledAt,
    async pass(seconds: number, stepMs = 100) {
      for (let passed = 0; passed < seconds * 1000; passed += stepMs) {
        nowMs += stepMs
        t.mock.timers.tick(stepMs)
        for (let turn = 0; turn < 5; turn++) await new Promise<void>((resolve) => setImmediate(resolve))
      }
    },
    /** How many dials there were since this was asked last. */
    dials: () => dialledAt.splice(0).length,
  }
}

function later(seconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, seconds * 1000))
}

test('a neighbour that does not answer is tried four times a minute and more', async (t) => {
  const { pass, dials } = await startConnector(t, neighbour)
  await pass(120)
  dials()
  await pass(60)
  const count = dials()
  assert.ok(count >= 3 && count <= 5, `${count} dials`)
})

test('a neighbour that has not answered for long is tried every few minutes, and soon again with traffic', async (t) => {
  const { connector, pass, dials } = await startConnector(t, neighbour)
  await pass(3600, 1000)
  dials()
  await pass(3600, 1000)
  const count = dials()
  assert.ok(count >= 10 && count <= 18, `${count} dials an hour`)
  connector.want('edge-b')
  await pass(30)
  assert.ok(dials() >= 4)
})

test('where another node answers is not asked again for a minute, and ever less often', async (t) => {
  const { connector, pass, dials } = await startConnector(t, neighbour, 'a', 'somebody else')
  await pass(40)
  assert.equal(dials(), 1)
  connector.want('edge-b')
  await pass(10)
  assert.equal(dials(), 0, 'traffic changes nothing about it')
  await pass(7200, 1000)
  const count = dials()
  assert.ok(count >= 5 && count <= 9, `${count} dials`)
  connector.retryAll()
  await pass(1)
  assert.equal(dials(), 1, 'in another network somebody else may be there')
})

test('a node beyond the LAN is tried while flows go there, and seldom after that', async (t) => {
  const { connector, pass, dials } = await startConnector(t, faraway)
  await pass(30)
  assert.equal(dials(), 0)
  connector.want('edge-b')
  await pass(60)
  assert.ok(dials() >= 5)
  await pass(120)
  dials()
  await pass(120)
  const count = dials()
  assert.ok(count >= 1 && count <= 3, `${count} dials`)
})

test('new traffic after a while does not wait for what failed before it', async (t) => {
  const { connector, pass, dials } = await startConnector(t, faraway)
  connector.want('edge-b')
  await pass(200)
  dials()
  connector.want('edge-b')
  await pass(0.5)
  assert.equal(dials(), 1)
  connector.want('edge-b')
  await pass(0.3)
  assert.equal(dials(), 0, 'traffic that goes on is not new')
})

for (const [change, tell] of [
  ['news of a node', (connector: DirectConnector) => connector.retry(['edge-b'])],
  ['a change of the own network', (connector: DirectConnector) => connector.retryAll()],
] as const) {
  test(`${change} makes what failed before count no more`, async (t) => {
    const { connector, pass, dials } = await startConnector(t, neighbour)
    await pass(180)
    dials()
    tell(connector)
    await pass(0.3)
    assert.equal(dials(), 1)
    await pass(4)
    assert.ok(dials() >= 2, 'and the pauses are short again')
    assert.ok(connector.failedAttemptsOf('edge-b') > 10, 'people are told of all')
  })
}

test('of two sides that learn the same the lower identity dials first', async (t) => {
  const { connector, pass, dials } = await startConnector(t, neighbour, 'c')
  await pass(180)
  dials()
  connector.retry(['edge-b'])
  await pass(0.2)
  assert.equal(dials(), 0)
  await pass(1.2)
  assert.ok(dials() >= 1)
})

test('an address at which another node answers does not keep the pauses after the other ones short', async (t) => {
  const { connector, pass, dials } = await startAmong(t, { [neighbour]: { peerId: 'somebody else' }, [beside]: {} })
  await pass(120)
  dials()
  await pass(60)
  const count = dials()
  assert.ok(count >= 3 && count <= 6, `${count} dials`)
  assert.ok(connector.failedAttemptsOf('edge-b') > 8, 'all attempts are counted')
})

test('a node that comes to one of its addresses is met there, though another node answers at the other one', async (t) => {
  const places: Record<string, Place> = {
    [neighbour]: { peerId: 'somebody else' },
    [beside]: { afterSeconds: 1.4 },
  }
  const { connector, pass } = await startAmong(t, places)
  await pass(30)
  assert.ok(connector.failedAttemptsOf('edge-b') > 0)
  places[beside] = { peerId: 'b', afterSeconds: 0.1 }
  await pass(30)
  assert.equal(connector.lastErrorOf('edge-b'), undefined)
})

test('a node whose addresses change while it is being dialled is dialled again', async (t) => {
  const places: Record<string, Place> = { [neighbour]: { afterSeconds: 1.4 } }
  const { connector, pass, dials } = await startAmong(t, places)
  await pass(0.5)
  assert.equal(dials(), 1)
  places[beside] = { peerId: 'b' }
  await pass(10)
  assert.ok(dials() >= 1)
  assert.equal(connector.lastErrorOf('edge-b'), undefined)
})

test('nothing is remembered of attempts to reach a node that is no longer known', async (t) => {
  const { connector, records, pass } = await startConnector(t, neighbour)
  await pass(30)
  assert.ok(connector.failedAttemptsOf('edge-b') > 0)
  records.length = 0
  await pass(2)
  assert.deepEqual([connector.failedAttemptsOf('edge-b'), connector.lastErrorOf('edge-b')], [0, undefined])
})

test('news of a node that was never tried are no trouble', async (t) => {
  const { connector, pass, dials } = await startConnector(t, faraway)
  connector.retry(['edge-x'])
  await pass(1)
  assert.equal(dials(), 0)
})
