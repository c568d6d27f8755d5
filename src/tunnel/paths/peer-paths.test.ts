import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import type { PeerLinks } from '../links/peer-links.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { DirectConnector } from './direct-connector.ts'
import { PeerPaths } from './peer-paths.ts'

const peerId = 'peer of edge-b'

/** Paths to `edge-b`, to which one connection stands; `settled` is the attempt to make a link. */
function createPaths(settled: (signal: AbortSignal) => Promise<Link | undefined>, address = '/ip4/192.0.2.1/tcp/1') {
  const connection = { peerId, relayPeerId: undefined, address } as PeerConnection
  const direct: Pick<DirectConnector, 'want'> = { want() {} }
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
  let standing: Link | undefined
  const asked: string[] = []
  paths.useLinks({
    table: { peer: () => ({ peerId, best: () => standing, links: new Set() }) as unknown as PeerLinks },
    want: (wanted) => void asked.push(wanted),
    attemptSettled: async (_, signal) => {
      standing = await settled(signal)
    },
    lastErrorOf: () => undefined,
  })
  return { paths, asked }
}

/** A link that stands; its path is told from that of the connection. */
const link = { path: 'direct over a link', isDirect: true } as Link
const never = new AbortController().signal

test('the first flow waits for the link that is being made', async () => {
  const { paths, asked } = createPaths(async () => link)
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'direct over a link')
  assert.deepEqual(asked, [peerId, peerId])
})

test('a flow takes the connection when no link comes', async () => {
  const { paths } = createPaths(async () => undefined)
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'direct')
})

test('who gives up while waiting is not kept', async () => {
  const { paths } = createPaths(async (signal) => {
    signal.throwIfAborted()
    return undefined
  })
  await assert.rejects(paths.carrierTo('edge-b', AbortSignal.abort(new Error('gone'))), /gone/)
})

test('a relayed link without the connection to agree on a better path over gets one again', async () => {
  const dialled: string[] = []
  const wanted: string[] = []
  const relay = {
    address: { text: 'relay:20004', multiaddress: '/dns/relay/tcp/20004' },
    peerId: 'relay',
    isUp: true,
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
    attemptSettled: async () => {},
    lastErrorOf: () => undefined,
  })
  assert.deepEqual(paths.pathOf(peerId), { kind: 'relayed', via: 'relay:20004' })
  assert.equal((await paths.carrierTo('edge-b', never)).path, 'relayed via relay:20004')
  await made
  assert.deepEqual(dialled, [`/dns/relay/tcp/20004/p2p/relay/p2p-circuit/p2p/${peerId}`])
})

test('a neighbour in a subnet of this node is reached in the LAN, any other one directly', async () => {
  const inLan = createPaths(async () => undefined, '/ip4/198.51.100.9/tcp/20006/p2p/x')
  assert.deepEqual(inLan.paths.pathOf(peerId), { kind: 'lan', address: '/ip4/198.51.100.9/tcp/20006' })
  assert.equal((await inLan.paths.carrierTo('edge-b', never)).path, 'lan')
  assert.equal(createPaths(async () => undefined).paths.pathOf(peerId).kind, 'direct')
  assert.deepEqual(
    ['198.51.100.200', '192.0.2.9', ''].map((address) => inLan.paths.describeDirect(address)),
    ['lan', 'direct', 'direct'],
  )
})
