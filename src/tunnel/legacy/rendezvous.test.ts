import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import type { ProtocolHandler } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { deriveIdentity } from '../identity/derived-key.ts'
import {
  type DhtMessage,
  type DhtPeer,
  dhtProtocols,
  dhtTypes,
  readDhtMessage,
  rendezvousKeyOf,
  writeDhtMessage,
} from './dht-messages.ts'
import { Rendezvous } from './rendezvous.ts'
import { serveRendezvous } from './serve-rendezvous.ts'

const never = new AbortController().signal
const rendezvous = 'EDGEMESH_PLAYGOUND'
const key = rendezvousKeyOf(rendezvous)
const [relayId, edgeId, otherId] = await Promise.all(
  ['cloud-1', 'edge-1', 'edge-2'].map(async (name) => (await deriveIdentity(name)).peerId),
)
const lanAddress = '/ip4/192.168.1.11/tcp/20006'

/** Lets everything happen that needs no time. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve))
}

/** A relay, and connections of nodes to it. */
async function startRelay(
  t: TestContext,
  options: { readonly announced?: readonly string[]; readonly maxNodes?: number } = {},
) {
  const handlers = new Map<string, ProtocolHandler['onStream']>()
  let nowMs = 0
  const served = await serveRendezvous({
    host: {
      peerId: relayId ?? '',
      announced: () => options.announced ?? [],
      handle: async ({ protocol, onStream }) => void handlers.set(protocol, onStream),
      unhandle: async (protocol) => void handlers.delete(protocol),
    },
    rendezvous,
    ...(options.maxNodes !== undefined && { maxNodes: options.maxNodes }),
    logger: silentLogger,
    nowMs: () => nowMs,
  })
  t.after(() => served[Symbol.asyncDispose]())
  const openStream = (from: string, protocol: string): ByteStream => {
    const [near, far] = createMemoryStreamPair()
    for (const stream of [near, far]) stream.on('error', () => {})
    const onStream = handlers.get(protocol)
    if (onStream === undefined) throw new Error(`nobody speaks ${protocol}`)
    onStream(far, { peerId: from } as PeerConnection)
    return near
  }
  return {
    handlers,
    served,
    openStream,
    pass(ms: number) {
      nowMs += ms
    },
    /** Asks one question; undefined when the stream ends instead. */
    async ask(from: string, question: Partial<DhtMessage>): Promise<DhtMessage | undefined> {
      const stream = openStream(from, dhtProtocols[0])
      writeDhtMessage(stream, question)
      stream.end()
      return await readDhtMessage(stream, never).catch(() => undefined)
    },
  }
}

type Relay = Awaited<ReturnType<typeof startRelay>>

function startNode(t: TestContext, relay: Pick<Relay, 'openStream'>, peerId: string | undefined) {
  const tasks = new TaskGroup((_task, error) => assert.fail(String(error)))
  t.after(() => tasks[Symbol.asyncDispose]())
  const found: DhtPeer[] = []
  let connection: PeerConnection
  const connect = () => {
    connection = {
      peerId: relayId,
      address: `/ip4/203.0.113.100/tcp/20006/p2p/${relayId}`,
      openStream: async (protocol: string) => relay.openStream(peerId ?? '', protocol),
    } as unknown as PeerConnection
  }
  connect()
  let nowMs = 0
  let look = () => {}
  const node = new Rendezvous({
    host: { peerId: peerId ?? '', announced: () => [lanAddress], connectionsTo: () => [connection] },
    rendezvous,
    relays: () => [relayId ?? ''],
    onFound: (peer, through) => {
      assert.equal(through, relayId)
      found.push(peer)
    },
    tasks,
    logger: silentLogger,
    nowMs: () => nowMs,
    pause: () =>
      new Promise((resolve) => {
        look = resolve
      }),
  })
  const stopping = new AbortController()
  t.after(() => {
    stopping.abort()
    look()
  })
  void node.run(stopping.signal)
  return {
    found,
    connect,
    async pass(ms: number) {
      nowMs += ms
      look()
      await settle()
    },
  }
}

suite('a rendezvous', () => {
  test('answers any number of questions on one stream, and remembers nothing of those that are answered', async (t) => {
    const relay = await startRelay(t)
    const stream = relay.openStream(edgeId ?? '', dhtProtocols[0])
    for (let count = 0; count < 50; count++) {
      writeDhtMessage(stream, { type: dhtTypes.ping })
      assert.equal((await readDhtMessage(stream, never))?.type, dhtTypes.ping)
    }
    assert.ok(stream.listenerCount('error') <= 3, `${stream.listenerCount('error')} listeners`)
  })

  test('reads no questions that are longer than a node has to say', async (t) => {
    const relay = await startRelay(t)
    const addresses = Array.from({ length: 16 }, (_, index) => `/ip4/192.168.1.${index}/tcp/20006`)
    const manyPeers = Array.from({ length: 400 }, () => ({ peerId: otherId ?? '', addresses }))
    assert.equal(await relay.ask(edgeId ?? '', { type: dhtTypes.ping, providers: manyPeers }), undefined)
    const self = { peerId: edgeId ?? '', addresses }
    assert.ok(await relay.ask(edgeId ?? '', { type: dhtTypes.ping, providers: [self] }))
  })

  test('lets nodes find each other, whoever comes first', async (t) => {
    const relay = await startRelay(t)
    const first = startNode(t, relay, edgeId)
    await settle()
    assert.deepEqual(first.found, [])
    const second = startNode(t, relay, otherId)
    await settle()
    const addresses = [lanAddress, `/ip4/203.0.113.100/tcp/20006/p2p/${relayId}/p2p-circuit`]
    assert.deepEqual(second.found, [{ peerId: edgeId, addresses }])
    await first.pass(9000)
    assert.deepEqual(first.found, [])
    await first.pass(1000)
    assert.deepEqual(first.found, [{ peerId: otherId, addresses }])
  })

  test('is asked ever less often on one connection, and at once on another one', async (t) => {
    const relay = await startRelay(t)
    let asked = 0
    const counting = {
      openStream: (from: string, protocol: string) => {
        asked += 1
        return relay.openStream(from, protocol)
      },
    }
    const node = startNode(t, counting, edgeId)
    for (let minute = 0; minute < 60; minute++) await node.pass(60_000)
    assert.ok(asked >= 2 * 6 && asked <= 2 * 8, `${asked} times`)
    const before = asked
    node.connect()
    await node.pass(0)
    assert.equal(asked, before + 2)
  })

  test('with a relay that serves none is no failure', async (t) => {
    const node = startNode(t, { openStream: () => assert.fail('not spoken') }, edgeId)
    await node.pass(60_000)
    assert.deepEqual(node.found, [])
  })

  test('tells of the relay itself when it announces addresses', async (t) => {
    const announced = ['/ip4/203.0.113.100/tcp/20006']
    const relay = await startRelay(t, { announced })
    const answer = await relay.ask(edgeId ?? '', { type: dhtTypes.getProviders, key })
    assert.deepEqual(answer?.providers, [{ peerId: relayId, addresses: announced }])
  })

  test('believes no node about another one, and knows one name only', async (t) => {
    const relay = await startRelay(t)
    const other = { peerId: otherId ?? '', addresses: [lanAddress] }
    await relay.ask(edgeId ?? '', { type: dhtTypes.addProvider, key, providers: [other] })
    await relay.ask(otherId ?? '', { type: dhtTypes.addProvider, key: rendezvousKeyOf('other'), providers: [other] })
    await relay.ask(otherId ?? '', {
      type: dhtTypes.addProvider,
      key,
      providers: [{ ...other, addresses: [] }],
    })
    for (const asked of [key, rendezvousKeyOf('other')]) {
      const answer = await relay.ask(edgeId ?? '', { type: dhtTypes.getProviders, key: asked })
      assert.deepEqual(answer?.providers, [])
    }
  })

  test('forgets nodes that have said nothing for a day', async (t) => {
    const relay = await startRelay(t)
    const self = { peerId: edgeId ?? '', addresses: [lanAddress] }
    await relay.ask(self.peerId, { type: dhtTypes.addProvider, key, providers: [self] })
    relay.pass(23 * 3600 * 1000)
    assert.equal((await relay.ask('', { type: dhtTypes.getProviders, key }))?.providers.length, 1)
    relay.pass(2 * 3600 * 1000)
    assert.equal((await relay.ask('', { type: dhtTypes.getProviders, key }))?.providers.length, 0)
  })

  test('holds a bounded number of nodes, those that spoke last', async (t) => {
    const relay = await startRelay(t, { maxNodes: 2 })
    const tell = async (peerId = '') =>
      await relay.ask(peerId, { type: dhtTypes.addProvider, key, providers: [{ peerId, addresses: [lanAddress] }] })
    for (const peerId of [edgeId, otherId, edgeId, relayId]) await tell(peerId)
    const answer = await relay.ask('', { type: dhtTypes.getProviders, key })
    assert.deepEqual(
      answer?.providers.map(({ peerId }) => peerId),
      [edgeId, relayId],
    )
  })

  test('answers the other questions of Kademlia: who is there, and where is a node', async (t) => {
    const relay = await startRelay(t)
    const self = { peerId: edgeId ?? '', addresses: [lanAddress] }
    await relay.ask(self.peerId, { type: dhtTypes.addProvider, key, providers: [self] })
    assert.equal((await relay.ask('', { type: dhtTypes.ping }))?.type, dhtTypes.ping)
    const unknown = await relay.ask('', { type: dhtTypes.findNode, key: Buffer.from('whatever') })
    assert.deepEqual(unknown?.closer, [])
    assert.equal((await relay.ask('', { type: dhtTypes.getValue, key }))?.type, dhtTypes.getValue)
    assert.equal(await relay.ask('', { type: 0, key }), undefined, 'values are not stored')
  })

  test('ends with the relay', async (t) => {
    const relay = await startRelay(t)
    const stream = relay.openStream(edgeId ?? '', dhtProtocols[1])
    await relay.served[Symbol.asyncDispose]()
    assert.equal(relay.handlers.size, 0)
    assert.equal(await readDhtMessage(stream, never).catch(() => undefined), undefined)
  })
})
