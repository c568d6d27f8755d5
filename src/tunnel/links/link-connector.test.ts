import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { spliceAskProtocol } from '../relay/splice-messages.ts'
import type { Link } from './link.ts'
import { LinkConnector, linkAskProtocol } from './link-connector.ts'
import type { LinkTable } from './link-table.ts'

const never = new AbortController().signal
const unsupported = Object.assign(new Error('no such protocol'), { name: 'UnsupportedProtocolError' })

/** What a played connection answers to a request for a stream: an error, the answer to the first frame, nothing, or
 * a stream on which nothing comes. */
type Answer = Error | object | 'nothing' | 'silence'

/** A connection on which the test answers. */
class PlayedConnection {
  readonly id: string
  readonly peerId: string
  readonly isOutbound: boolean
  readonly relayPeerId: string | undefined
  readonly asked: string[] = []
  answer: Answer = 'nothing'
  /** The far end of the stream that was opened last. */
  stream: ByteStream | undefined
  #fail: (reason: Error) => void = () => {}

  constructor(peerId: string, { isOutbound = false, id = '1', relayPeerId = '' } = {}) {
    this.id = id
    this.peerId = peerId
    this.isOutbound = isOutbound
    this.relayPeerId = relayPeerId === '' ? undefined : relayPeerId
  }

  get asPeer(): PeerConnection {
    return this as unknown as PeerConnection
  }

  fail(reason = new Error('the connection is bad')): void {
    this.#fail(reason)
  }

  openStream(protocol: string, signal: AbortSignal): Promise<unknown> {
    this.asked.push(protocol)
    const { answer } = this
    if (answer instanceof Error) return Promise.reject(answer)
    if (answer === 'nothing') {
      const { promise, reject } = Promise.withResolvers<never>()
      this.#fail = reject
      signal.addEventListener('abort', () => reject(signal.reason))
      return promise
    }
    const [ours, theirs] = createMemoryStreamPair()
    theirs.on('error', () => {})
    this.stream = theirs
    if (answer === 'silence') return Promise.resolve(ours)
    void readFrame(theirs, 2048, never)
      .then(() => writeFrame(theirs, answer, never))
      .catch(() => {})
    return Promise.resolve(ours)
  }
}

interface Setting {
  /** To the peer, if any. */
  readonly connection?: PlayedConnection | undefined
  readonly relays?: readonly PlayedConnection[]
  readonly isStranded?: boolean
  /** What comes of a TCP connection; default: a link. */
  dialAgain?(connection: PeerConnection): Promise<object>
}

/** A connector of the node `we`, with a clock that the test moves. */
function setUp(t: TestContext, { connection, relays = [], isStranded = false, dialAgain }: Setting) {
  const tasks = new TaskGroup(() => {})
  t.after(() => tasks[Symbol.asyncDispose]())
  const links: Link[] = []
  const settled: string[] = []
  let nowMs = 50_000
  const table = {
    peer: () => ({
      isStranded,
      usable: () => links,
      best: () => links.find(({ isDirect }) => isDirect) ?? links[0],
    }),
    dial: async ({ path }: { readonly path: string }) => {
      const link = { path, isDirect: path === 'direct' } as Link
      links.push(link)
      return link
    },
  }
  const connector = new LinkConnector({
    host: {
      peerId: 'we',
      dialAgain: async (to: PeerConnection) => await (dialAgain?.(to) ?? Promise.resolve({ write() {} })),
    } as unknown as ConstructorParameters<typeof LinkConnector>[0]['host'],
    table: table as unknown as LinkTable,
    tasks,
    bestConnection: () => connection?.asPeer,
    relaysTo: () => relays.map((relay) => ({ connection: relay.asPeer, path: `via ${relay.peerId}`, patienceMs: 300 })),
    pathOf: () => 'direct',
    pathFrom: () => 'direct',
    onSettled: () => void settled.push('settled'),
    logger: silentLogger,
    nowMs: () => nowMs,
  })
  return {
    connector,
    links,
    stop: () => tasks[Symbol.asyncDispose](),
    /** Wants a link, and waits until an attempt that ends at once has ended. */
    async want() {
      connector.want('peer', 'shared')
      for (let turn = 0; turn < 20; turn++) await setImmediate()
    },
    pass(ms: number) {
      nowMs += ms
    },
    settled,
  }
}

test('nobody waits for a link that is not being made', (t) => {
  assert.equal(setUp(t, {}).connector.hopeMs('peer'), 0)
  const { connector } = setUp(t, { connection: new PlayedConnection('peer') })
  connector.want('peer', 'bulk')
  assert.equal(connector.hopeMs('peer'), 0, 'other kinds are not waited for')
})

test('flows wait up to 5 s for the first link, and it is sought again soon when an attempt fails', async (t) => {
  const connection = new PlayedConnection('peer')
  const { connector, want, pass, settled } = setUp(t, { connection })
  await want()
  assert.equal(connector.hopeMs('peer'), 5000)
  pass(1000)
  connection.fail()
  await want()
  assert.deepEqual([connection.asked.length, settled.length, connector.hopeMs('peer')], [1, 1, 4000])
  pass(300)
  await want()
  assert.deepEqual([connection.asked.length, connector.hopeMs('peer')], [2, 3700])
  pass(3699)
  assert.equal(connector.hopeMs('peer'), 1)
  pass(1)
  assert.equal(connector.hopeMs('peer'), 0, 'that was long enough')
})

test('once that was in vain, flows wait for a moment only', async (t) => {
  const connection = new PlayedConnection('peer')
  const { connector, want, pass } = setUp(t, { connection })
  await want()
  pass(5000)
  connection.fail()
  await want()
  assert.equal(connector.hopeMs('peer'), 0)
  pass(10_000)
  await want()
  assert.deepEqual([connection.asked.length, connector.hopeMs('peer')], [2, 100])
})

for (const isStranded of [true, false]) {
  test(`a peer that was asked in vain for long is asked again ${isStranded ? 'soon while flows wait for a link' : 'ever less often'}`, async (t) => {
    const connection = new PlayedConnection('peer')
    const { want, pass } = setUp(t, { connection, isStranded })
    connection.answer = new Error('not now')
    await want()
    pass(6000)
    const before = connection.asked.length
    for (let second = 0; second < 12; second++) {
      await want()
      pass(1000)
    }
    const asked = connection.asked.length - before
    assert.equal(asked > 10, isStranded, `${asked} times`)
  })
}

test('news of the peer gives hope again', async (t) => {
  const connection = new PlayedConnection('peer')
  const { connector, want, pass } = setUp(t, { connection })
  connector.retry('peer')
  connection.answer = new Error('not now')
  await want()
  pass(6000)
  await want()
  assert.deepEqual([connection.asked.length, connector.hopeMs('peer')], [2, 0])
  connector.retry('peer')
  await want()
  assert.deepEqual([connection.asked.length, connector.hopeMs('peer')], [3, 5000])
  connection.answer = unsupported
  pass(300)
  await want()
  connector.retry('peer')
  assert.equal(connector.hopeMs('peer'), 0, 'but not of one that speaks no links')
})

test('a peer that says that it speaks no links is not waited for', async (t) => {
  const connection = new PlayedConnection('peer')
  connection.answer = unsupported
  const { connector, want, pass } = setUp(t, { connection })
  await want()
  assert.deepEqual([connection.asked, connector.hopeMs('peer')], [[linkAskProtocol], 0])
  pass(1000)
  await want()
  assert.equal(connection.asked.length, 1)
})

test('a peer that closes what we dial is asked whether it speaks links at all', async (t) => {
  const connection = new PlayedConnection('peer', { isOutbound: true })
  connection.answer = unsupported
  const { connector, want } = setUp(t, { connection, dialAgain: () => Promise.reject(new Error('closed')) })
  await want()
  assert.deepEqual([connection.asked, connector.hopeMs('peer')], [[linkAskProtocol], 0])
})

test('where a relay reaches the peer it joins the two, with no connection to the peer before', async (t) => {
  const relay = new PlayedConnection('relay', { isOutbound: true })
  relay.answer = { token: 'A'.repeat(43) }
  const { connector, links, want } = setUp(t, { relays: [relay] })
  await want()
  assert.deepEqual([relay.asked, links.map(({ path }) => path)], [[spliceAskProtocol], ['via relay']])
  assert.equal(connector.hopeMs('peer'), 0, 'it stands')
})

test('when a relay refuses, the next one is asked; what it said counts only if no other one gives hope', async (t) => {
  const relays = ['one', 'two'].map((name) => new PlayedConnection(name, { isOutbound: true, id: name }))
  const [one, two] = relays
  assert.ok(one && two)
  one.answer = { error: 'the peer cannot be asked', code: 'unsupported' }
  two.answer = { error: 'the relay joins as many connections as it may' }
  const { connector, links, want, pass } = setUp(t, { relays })
  await want()
  assert.deepEqual([one.asked.length, two.asked.length, connector.hopeMs('peer')], [1, 1, 5000])
  two.answer = { token: 'A'.repeat(43) }
  pass(300)
  await want()
  assert.deepEqual(
    links.map(({ path }) => path),
    ['via two'],
  )
})

test('a peer that takes no part in splices, and relays that join nobody, end the wait', async (t) => {
  const relay = new PlayedConnection('relay', { isOutbound: true })
  const { connector, want, pass } = setUp(t, { relays: [relay] })
  relay.answer = { error: 'the peer cannot be asked', code: 'unsupported' }
  await want()
  assert.equal(connector.hopeMs('peer'), 0)
  pass(10_000)
  relay.answer = unsupported
  await want()
  assert.equal(relay.asked.length, 2)
  pass(200_000)
  await want()
  assert.equal(relay.asked.length, 2, 'a relay of the Go system is not asked again')
})

test('a direct path that does not answer for a second gets a relayed link beside it, one that fails gets it at once', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const connection = new PlayedConnection('peer')
  const relay = new PlayedConnection('relay', { isOutbound: true })
  relay.answer = { token: 'A'.repeat(43) }
  const { links, want } = setUp(t, { connection, relays: [relay] })
  await want()
  assert.deepEqual(links, [])
  t.mock.timers.tick(1000)
  await want()
  assert.deepEqual(
    links.map(({ path }) => path),
    ['via relay'],
  )
  const failing = new PlayedConnection('peer')
  failing.answer = new Error('not now')
  const second = setUp(t, { connection: failing, relays: [relay] })
  await second.want()
  assert.deepEqual(
    second.links.map(({ path }) => path),
    ['via relay'],
  )
})

test('another link than one through a silent relay is one that stands, else a new one; all who need it share it', async (t) => {
  const relays = ['one', 'two'].map((name) => new PlayedConnection(name, { isOutbound: true, id: name }))
  const { connector, links } = setUp(t, { relays })
  for (const relay of relays) relay.answer = { token: 'A'.repeat(43) }
  assert.equal(await setUp(t, { relays: relays.slice(0, 1) }).connector.another('peer', 'one'), undefined)
  const made = await Promise.all([connector.another('peer', 'one'), connector.another('peer', 'one')])
  assert.deepEqual(
    made.map((link) => link?.path),
    ['via two', 'via two'],
  )
  assert.equal(links.length, 1)
  assert.equal(await connector.another('peer', 'one'), links[0])
  assert.deepEqual(
    relays.map(({ asked }) => asked.length),
    [0, 1],
  )
})

test('a request that is not answered is reset, not left open for as long as the connection', async (t) => {
  const connection = new PlayedConnection('peer')
  connection.answer = 'silence'
  const { connector, stop } = setUp(t, { connection })
  connector.want('peer', 'shared')
  await setImmediate()
  await stop()
  await setImmediate()
  assert.equal(Object(connection.stream?.errored).code, 'ECONNRESET')
})
