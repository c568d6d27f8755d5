import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import type { PeerLinks } from '../links/peer-links.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { DirectConnector } from './direct-connector.ts'
import { PeerPaths } from './peer-paths.ts'

const peerId = 'peer of edge-b'

interface LinkPlay {
  /** How long a link is worth waiting for, one look after the other; default: not at all. */
  readonly hopesMs?: readonly number[]
  /** The link that stands after so many wants. */
  linkAfter?: number
  /** What that is; default: a direct one. */
  readonly link?: Partial<Link>
}

/** Paths to `edge-b`, to which one connection stands. */
function createPaths(play: LinkPlay = {}, address = '/ip4/192.0.2.1/tcp/1') {
  const connection = { peerId, relayPeerId: undefined, address } as PeerConnection
  const direct: Pick<DirectConnector, 'want' | 'lastErrorOf'> = { want() {}, lastErrorOf: () => undefined }
  const host: Pick<Host, 'connectionsTo'> = { connectionsTo: () => [connection] }
  const record = { record: { name: 'edge-b', peerId } }
  const book = { recordOf: () => record, nameOf: () => 'edge-b' }
  const paths = new PeerPaths({
    host: host as Host,
    book: book as unknown as RecordBook,
    links: [],
    direct: direct as DirectConnector,
    policy: { allows: () => true, seeksDirect: true, punches: true, mapsPorts: true },
    interfaceAddresses: () => [{ address: '198.51.100.7', prefixLength: 24 }],
    logger: silentLogger,
    patienceMs: 1000,
  })
  const asked: string[] = []
  const left = [...(play.hopesMs ?? [])]
  const standing = () =>
    asked.length >= (play.linkAfter ?? Number.POSITIVE_INFINITY) ? ((play.link as Link) ?? link) : undefined
  paths.useLinks({
    table: { peer: () => ({ peerId, best: standing, links: new Set() }) as unknown as PeerLinks },
    want: (wanted) => void asked.push(wanted),
    // Each look finds something new.
    hopeMs: () => {
      setImmediate(() => paths.changed())
      return left.shift() ?? 0
    },
    another: async () => undefined,
    lastErrorOf: () => undefined,
  })
  return { paths, asked }
}

/** A link that stands; its path is told from that of the connection. */
const link = { path: 'direct over a link', isDirect: true } as Link
const never = new AbortController().signal

test('the first flow waits for the link that is being made, and asks for it again when that has failed', async () => {
  const { paths, asked } = createPaths({ hopesMs: [5000, 4000, 3000], linkAfter: 3 })
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'direct over a link')
  assert.ok(asked.length >= 3 && asked.every((each) => each === peerId), asked.join())
})

test('a flow takes the connection when there is no hope for a link', async () => {
  const { paths, asked } = createPaths({ hopesMs: [5000] })
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'direct')
  assert.ok(asked.length >= 2, asked.join())
})

test('why a path failed is told until one works', async () => {
  const play: LinkPlay = {}
  const { paths } = createPaths(play)
  paths.reportBroken(await paths.carrierTo('edge-b', never), new Error('nothing was heard'))
  assert.equal(paths.lastErrorOf('edge-b'), 'nothing was heard')
  play.linkAfter = 1
  await paths.carrierTo('edge-b', never)
  assert.equal(paths.lastErrorOf('edge-b'), undefined)
})

test('who gives up while waiting is not kept', async () => {
  const { paths } = createPaths({ hopesMs: Array.from({ length: 100 }, () => 5000) })
  const gone = new AbortController()
  const waiting = paths.carrierTo('edge-b', gone.signal)
  gone.abort(new Error('gone'))
  await assert.rejects(waiting, /gone/)
  await assert.rejects(paths.carrierTo('edge-b', AbortSignal.abort(new Error('gone before'))), /gone before/)
})

test('a relayed link without the connection to agree on a better path over gets one again', async () => {
  const dialled: string[] = []
  const wanted: string[] = []
  const relay = {
    address: { text: 'relay:20004', multiaddress: '/dns/relay/tcp/20004' },
    peerId: 'relay',
    isUp: true,
    isDoubted: false,
    roundTripMs: 1,
    reaches: () => true,
    refusalOf: () => undefined,
    status: () => ({ address: 'relay:20004', connected: true, reserved: true }),
  }
  const host: Pick<Host, 'connectionsTo' | 'dial'> = {
    connectionsTo: () => [],
    dial: async (address) => {
      dialled.push(address)
      return { peerId, relayPeerId: 'relay' } as PeerConnection
    },
  }
  const paths = new PeerPaths({
    host: host as Host,
    book: { recordOf: () => ({ record: { name: 'edge-b', peerId } }) } as unknown as RecordBook,
    links: [relay],
    direct: { want() {} } as unknown as DirectConnector,
    policy: { allows: () => true, seeksDirect: true, punches: true, mapsPorts: true },
    interfaceAddresses: () => [],
    logger: silentLogger,
    patienceMs: 1000,
  })
  const relayed = { path: 'relayed via relay:20004', isDirect: false } as Link
  const { promise: made, resolve } = Promise.withResolvers<void>()
  paths.useLinks({
    table: { peer: () => ({ peerId, best: () => relayed, links: new Set([relayed]) }) as unknown as PeerLinks },
    want: (whom) => {
      wanted.push(whom)
      if (wanted.length === 2) resolve()
    },
    hopeMs: () => 0,
    another: async () => undefined,
    lastErrorOf: () => undefined,
  })
  assert.deepEqual(paths.pathOf(peerId), { kind: 'relayed', via: 'relay:20004' })
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'relayed via relay:20004')
  await made
  assert.deepEqual(dialled, [`/dns/relay/tcp/20004/p2p/relay/p2p-circuit/p2p/${peerId}`])
})

test('a flow that meets with silence is opened over a link through another relay, and later ones begin there', async () => {
  const reachedThrough = new Set(['one', 'two'])
  let isOtherGone = false
  const relays = [...reachedThrough].map((name) => ({
    address: { text: `${name}:20004`, multiaddress: `/dns/${name}/tcp/20004` },
    peerId: name,
    isUp: true,
    isDoubted: false,
    roundTripMs: 1,
    reaches: () => reachedThrough.has(name),
    refusalOf: () => undefined,
    status: () => ({ address: `${name}:20004`, connected: true, reserved: true }),
  }))
  const connectionOf = (relayPeerId: string) => ({ peerId: relayPeerId, isOutbound: true }) as PeerConnection
  const paths = new PeerPaths({
    host: {
      connectionsTo: (wanted: string) => (wanted === peerId ? [] : [connectionOf(wanted)]),
      dial: () => Promise.reject(new Error('a link needs no connection')),
    } as unknown as Host,
    book: { recordOf: () => ({ record: { name: 'edge-b', peerId } }), nameOf: () => 'edge-b' } as unknown as RecordBook,
    links: relays,
    direct: { want() {} } as unknown as DirectConnector,
    policy: { allows: () => true, seeksDirect: true, punches: true, mapsPorts: true },
    interfaceAddresses: () => [],
    logger: silentLogger,
    patienceMs: 1000,
  })
  const [silent, other] = ['one', 'two'].map((name) => {
    return { path: `relayed via ${name}:20004`, isDirect: false, lastHeardMs: 0, probe() {} } as unknown as Link
  })
  assert.ok(silent && other)
  const [stream] = createMemoryStreamPair()
  const peer = {
    peerId,
    links: new Set([silent, other]),
    best: () => (paths.isDoubted(silent) && !isOtherGone ? other : silent),
    open: (_request: object, _signal: AbortSignal, on?: Link) =>
      on === other ? Promise.resolve(stream) : new Promise(() => {}),
  } as unknown as PeerLinks
  const asked: (string | undefined)[] = []
  paths.useLinks({
    table: { peer: () => peer },
    want: () => {},
    hopeMs: () => 0,
    another: async (_peerId, relay) => {
      asked.push(relay)
      return other
    },
    lastErrorOf: () => undefined,
  })
  const carrier = await paths.carrierTo('edge-b', never)
  assert.equal(carrier.path, 'relayed via one:20004')
  assert.deepEqual(paths.pathOf(peerId), { kind: 'relayed', via: 'one:20004' })
  const request = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const
  assert.equal(await carrier.open(request, never), stream)
  assert.deepEqual([asked, paths.isDoubted(silent), paths.isDoubted(other)], [['one'], true, false])
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'relayed via two:20004')
  // What people see is where flows go, whichever relay a connection runs through.
  assert.deepEqual(paths.pathOf(peerId), { kind: 'relayed', via: 'two:20004' })
  isOtherGone = true
  assert.equal(paths.standingTo('edge-b')?.path, undefined)
  reachedThrough.delete('two')
  assert.equal(paths.standingTo('edge-b')?.path, 'relayed via one:20004')
  reachedThrough.add('two')
  assert.deepEqual(
    paths.relaysTo(peerId).map(({ connection }) => connection.peerId),
    ['two', 'one'],
  )
})

test('a neighbour in a subnet of this node is reached in the LAN, any other one directly', async () => {
  const inLan = createPaths({}, '/ip4/198.51.100.9/tcp/20006/p2p/x')
  assert.deepEqual(inLan.paths.pathOf(peerId), { kind: 'lan', address: '/ip4/198.51.100.9/tcp/20006' })
  assert.equal((await inLan.paths.carrierTo('edge-b', never)).path, 'lan')
  assert.equal(createPaths().paths.pathOf(peerId).kind, 'direct')
})

test('a peer is relayed while its flows are, although it is connected directly', () => {
  const link = { path: 'relayed via one:20004', isDirect: false, flows: 1 }
  assert.deepEqual(createPaths({ linkAfter: 0, link }).paths.pathOf(peerId), { kind: 'relayed', via: 'one:20004' })
  const idle = { ...link, flows: 0 }
  assert.equal(createPaths({ linkAfter: 0, link: idle }).paths.pathOf(peerId).kind, 'direct')
})
