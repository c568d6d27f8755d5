import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import type { ConnectionListener } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { RelayWatch, type WatchedLink } from './relay-watch.ts'

class PlayedLink implements WatchedLink {
  readonly path: string
  readonly isDirect: boolean
  lastHeardMs = 0
  bytesWritten = 0
  probes = 0
  closed = ''

  constructor(path = 'relayed via relay') {
    this.path = path
    this.isDirect = path === 'direct'
  }

  probe(): void {
    this.probes += 1
  }

  close(error: Error): void {
    this.closed = error.message
  }
}

interface PlayedConnection {
  readonly peerId: string
  readonly relayPeerId?: string
  lastHeardMs: number
  askedSinceMs: number
  joinedHeardMs: number
  readonly asked: number[]
  probes: number
  answers: boolean
}

function setUp(t: TestContext, links: readonly PlayedLink[]) {
  t.mock.timers.enable({ apis: ['setInterval', 'setTimeout'] })
  let nowMs = 10_000
  const played: PlayedConnection[] = ['relay', 'other'].map((peerId) => ({
    peerId,
    lastHeardMs: 0,
    askedSinceMs: 0,
    asked: [],
    joinedHeardMs: 0,
    probes: 0,
    answers: false,
  }))
  const connections = played.map((connection) =>
    Object.assign(connection, {
      noteAsked(sinceMs: number) {
        connection.asked.push(sinceMs)
        connection.askedSinceMs = sinceMs
      },
      noteJoinedHeard(atMs: number) {
        connection.joinedHeardMs = atMs
      },
      probe: async () => {
        connection.probes += 1
        if (connection.answers) connection.lastHeardMs = nowMs
      },
    }),
  ) as unknown as PeerConnection[]
  let onSilent = (_connection: PeerConnection) => {}
  let onConnection: ConnectionListener = () => {}
  const nothing = { [Symbol.dispose]: () => {} }
  const tasks = new TaskGroup((_name, error) => assert.fail(String(error)))
  const watch = new RelayWatch({
    host: {
      connections: () => connections,
      connectionsTo: (peerId) => connections.filter((connection) => connection.peerId === peerId),
      onSilent(listener) {
        onSilent = listener
        return nothing
      },
      onConnection(listener) {
        onConnection = listener
        return nothing
      },
    },
    links: () => links.filter(({ closed }) => closed === ''),
    isRelay: (peerId) => peerId === 'relay',
    relayOf: ({ path }) => (path === 'relayed via relay' ? 'relay' : undefined),
    tasks,
    logger: silentLogger,
    nowMs: () => nowMs,
    pause: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
  })
  t.after(() => watch[Symbol.dispose]())
  const [relay, other] = played
  assert.ok(relay && other)
  const [relayConnection] = connections
  assert.ok(relayConnection)
  return {
    relay,
    other,
    async pass(ms: number) {
      for (let passed = 0; passed < ms; passed += 100) {
        nowMs += 100
        t.mock.timers.tick(100)
        await new Promise<void>((resolve) => setImmediate(resolve))
      }
    },
    now: () => nowMs,
    fallSilent: () => onSilent(relayConnection),
    comeBack: () => onConnection('open', relayConnection),
  }
}

test('the relay of a link that sends and hears nothing is asked for; one that is idle, or heard, is not', async (t) => {
  const links = [new PlayedLink(), new PlayedLink(), new PlayedLink('direct'), new PlayedLink('relayed via old')]
  const { relay, other, pass, now } = setUp(t, links)
  const [sending, hearing] = links
  assert.ok(sending && hearing)
  await pass(1000)
  for (const link of links) link.bytesWritten = 100
  hearing.lastHeardMs = now()
  sending.bytesWritten = 0
  await pass(500)
  assert.deepEqual(relay.asked, [])
  sending.bytesWritten = 100
  await pass(500)
  assert.deepEqual(relay.asked, [now() - 500])
  await pass(2000)
  assert.deepEqual([relay.asked.length, other.asked.length], [1, 0], 'what was sent once is told once')
})

test('what comes over links that a relay joins is noted for the relay, not for others', async (t) => {
  const links = [new PlayedLink(), new PlayedLink('direct')] as const
  const { relay, other, pass, now } = setUp(t, links)
  await pass(1000)
  for (const link of links) link.lastHeardMs = now()
  const heardMs = now()
  await pass(500)
  assert.deepEqual([relay.joinedHeardMs, other.joinedHeardMs, relay.asked], [heardMs, 0, []])
})

test('links through a silent relay end when others were heard meanwhile; those that were heard lately, and others, stay', async (t) => {
  const links = [new PlayedLink(), new PlayedLink(), new PlayedLink('direct')]
  const { relay, other, pass, now, fallSilent } = setUp(t, links)
  const [silent, lately, direct] = links
  assert.ok(silent && lately && direct)
  other.answers = true
  relay.askedSinceMs = now()
  await pass(900)
  assert.equal(other.probes, 0)
  await pass(3000)
  assert.ok(other.probes >= 1 && other.probes <= 3, `${other.probes} probes`)
  assert.equal(relay.probes, 0, 'that is done where silence is watched')
  lately.lastHeardMs = now() - 1000
  fallSilent()
  assert.deepEqual([silent.closed, lately.closed, direct.closed], ['nothing is heard of the relay', '', ''])
})

test('as long as a relay is heard nobody else is asked, nor when a neighbour is silent', async (t) => {
  const { relay, other, pass, now } = setUp(t, [])
  relay.askedSinceMs = now()
  relay.lastHeardMs = now()
  other.askedSinceMs = now()
  await pass(5000)
  assert.deepEqual([relay.probes, other.probes], [0, 0])
})

test('while nobody is heard links stay, and end when somebody is heard and they are not', async (t) => {
  const links = [new PlayedLink(), new PlayedLink()]
  const { relay, pass, now, fallSilent, comeBack } = setUp(t, links)
  const [silent, answering] = links
  assert.ok(silent && answering)
  relay.askedSinceMs = now()
  await pass(4000)
  fallSilent()
  await pass(5000)
  assert.deepEqual([silent.closed, answering.closed], ['', ''])
  comeBack()
  answering.lastHeardMs = now() + 1
  await pass(3000)
  assert.deepEqual([silent.closed, answering.closed], ['nothing is heard of the relay', ''])
})
