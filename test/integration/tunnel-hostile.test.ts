/**
 * Somebody who holds the pre-shared key against a mesh that is at work:
 *
 *     edge-a ---- server ---- edge-b ---- TCP target
 *                    |
 *                 attacker (libp2p, nothing else of a node)
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { generateKeyPair } from '@libp2p/crypto/keys'
import { peerIdFromPrivateKey } from '@libp2p/peer-id'
import type { ByteStream } from '../../src/net/index.ts'
import { silentLogger } from '../../src/observability/index.ts'
import { directoryProtocol } from '../../src/tunnel/directory/messages.ts'
import { flowProtocol } from '../../src/tunnel/flows/carrier.ts'
import { openMessages } from '../../src/tunnel/flows/open-message.ts'
import { readFrame, writeFrame } from '../../src/tunnel/frames.ts'
import { connectionLimits } from '../../src/tunnel/host/connection-limits.ts'
import { createHost, type Host } from '../../src/tunnel/host/host.ts'
import type { PeerConnection } from '../../src/tunnel/host/peer-connection.ts'
import { KeyRing } from '../../src/tunnel/identity/key-ring.ts'
import { linkAskProtocol } from '../../src/tunnel/links/link-connector.ts'
import { dialBackProtocol } from '../../src/tunnel/nat/dial-back.ts'
import { punchProtocol } from '../../src/tunnel/punch/punch-messages.ts'
import { signRecord } from '../../src/tunnel/records/name-record.ts'
import { spliceAskProtocol, spliceOfferProtocol } from '../../src/tunnel/relay/splice-messages.ts'
import {
  dial,
  eventually,
  isServerReady,
  knows,
  readAll,
  startTcpServer,
  startTestAgent,
  startTestServer,
  type TestAgent,
  TestFolder,
  type TestServer,
} from './tunnel-mesh.ts'

const patienceMs = 20_000
const connectionsPerNode = 4
const running = new AsyncDisposableStack()
let folder: TestFolder
let server: TestServer
let a: TestAgent
let b: TestAgent
let targetPort: number

before(async () => {
  folder = running.use(await TestFolder.create())
  server = running.use(
    await startTestServer(folder, { config: { relay: { connectionsPerNode, bytesPerNodeAndDay: 0 } } }),
  )
  a = running.use(await startTestAgent(folder, 'edge-a', server.port))
  const paths = { directOnly: false, relayOnly: false, noPunch: false, noPortMapping: true }
  b = running.use(await startTestAgent(folder, 'edge-b', server.port, { config: { paths } }))
  const target = running.use(await startTcpServer((socket) => void socket.end('hello')))
  targetPort = target.port
  b.serve('10.1.1.1', targetPort)
  await eventually('all have met', () => isServerReady(a) && isServerReady(b) && knows(a, 'edge-b'), patienceMs)
})
after(() => running.disposeAsync())

function refusalOf(error: unknown): { destroyed: boolean } {
  if (Object(error).name === 'StreamResetError') return { destroyed: true }
  throw error
}

/** A member without a node: its own identity, and whatever it says. */
class Attacker implements AsyncDisposable {
  readonly peerId: string
  readonly #host: Host
  readonly #sign: (name: string, sequence?: number) => Promise<string>

  private constructor(host: Host, sign: Attacker['record']) {
    this.peerId = host.peerId
    this.#host = host
    this.#sign = sign
  }

  static async create(): Promise<Attacker> {
    const privateKey = await generateKeyPair('Ed25519')
    const peerId = peerIdFromPrivateKey(privateKey).toString()
    const path = join(folder.path, 'psk-server')
    const host = await createHost({
      identity: { peerId, privateKey },
      keyRing: await KeyRing.open({ path, previousPath: '' }),
      listenPort: 0,
      muxers: ['yamux'],
      maxStreamsPerConnection: 10_000,
      isRelay: false,
      logger: silentLogger,
    })
    await host.listen()
    const sign = async (name: string, sequence = 1) => {
      const record = { name, peerId, role: 'agent', sequence, addresses: [], time: 1 } as const
      return (await signRecord(record, privateKey)).encoded
    }
    return new Attacker(host, sign)
  }

  record(name: string, sequence?: number): Promise<string> {
    return this.#sign(name, sequence)
  }

  connect(port: number): Promise<PeerConnection> {
    return this.#host.dial(`/ip4/127.0.0.1/tcp/${port}`, AbortSignal.timeout(patienceMs))
  }

  /** Opens streams that say nothing, as many as it likes; those that the far end does not take are destroyed. */
  async openSilent(connection: PeerConnection, protocol: string, count: number): Promise<{ destroyed: boolean }[]> {
    // Else its own library would open no more than a few.
    await this.#host.handle({ protocol, maxStreams: 10_000, onStream: (stream) => void stream.destroy() })
    const streams: { destroyed: boolean }[] = []
    for (let opened = 0; opened < count; opened++) {
      const stream = await connection.openStream(protocol, AbortSignal.timeout(patienceMs)).catch(refusalOf)
      streams.push('on' in stream ? stream.on('error', () => {}) : stream)
    }
    return streams
  }

  /** Says something to the server's directory, and gives what it answers; undefined when it ends the stream. */
  async tell(message: unknown): Promise<unknown> {
    const stream = await (await this.connect(server.port)).openStream(
      directoryProtocol,
      AbortSignal.timeout(patienceMs),
    )
    await writeFrame(stream, message, AbortSignal.timeout(patienceMs))
    return await answerOn(stream)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#host[Symbol.asyncDispose]()
  }
}

async function answerOn(stream: ByteStream): Promise<unknown> {
  return await readFrame(stream, 1024 * 1024, AbortSignal.timeout(patienceMs)).catch(() => undefined)
}

const portOf = (agent: TestAgent) => Number(/\/tcp\/(\d+)/.exec(agent.tunnel.status().listen[0] ?? '')?.[1])
const hello = (record: string, known: object = {}) => ({ type: 'hello', record, known })

/** The mesh does what it is there for. */
async function assertWhole(): Promise<void> {
  assert.ok(isServerReady(a) && isServerReady(b))
  assert.equal((await readAll(await dial(a, 'edge-b', targetPort))).toString(), 'hello')
}

test('messages that are none end the stream they came on, and nothing else', async () => {
  await using attacker = await Attacker.create()
  const connection = await attacker.connect(server.port)
  const record = await attacker.record('evil')
  const tooMany = Object.fromEntries(Array.from({ length: 60_000 }, (_, index) => [`node-${index}`, -1]))
  const messages: readonly unknown[] = [
    {},
    [],
    'hello',
    { type: 'hello' },
    { type: 'records', records: [record] },
    hello('v1.x.y'),
    hello(record.slice(0, -10)),
    hello('x'.repeat(9000)),
    hello(record, tooMany),
    { ...hello(record), more: true },
  ]
  const raw = [
    Buffer.alloc(64, 0xff),
    Buffer.from([0, 0, 0, 1, 0x7b]),
    Buffer.concat([Buffer.from([0, 0x20, 0, 0]), Buffer.alloc(1 << 20)]),
  ]
  const signal = AbortSignal.timeout(patienceMs)
  for (const message of messages) {
    const stream = await connection.openStream(directoryProtocol, signal)
    await writeFrame(stream, message, signal).catch(() => {})
    assert.equal(await answerOn(stream), undefined, JSON.stringify(message).slice(0, 60))
    stream.destroy()
  }
  for (const bytes of raw) {
    const stream = await connection.openStream(directoryProtocol, signal)
    stream.on('error', () => {}).write(bytes)
    assert.equal(await answerOn(stream), undefined)
    stream.destroy()
  }
  assert.ok(!server.tunnel.status().records.some(({ name }) => name === 'evil'))
  await assertWhole()
})

test('the name of another node is refused, also while that is away, and so is a record that somebody else has signed', async () => {
  await using attacker = await Attacker.create()
  const refused = (answer: unknown) => String(Reflect.get(Object(answer), 'reason'))
  const isOfB = () =>
    server.tunnel.status().records.find(({ name }) => name === 'edge-b')?.peerId === b.tunnel.status().peerId
  assert.match(
    refused(await attacker.tell(hello(await attacker.record('edge-b', 2 ** 50)))),
    /belongs to another identity/,
  )
  assert.ok(isOfB())
  await using other = await Attacker.create()
  assert.match(
    refused(await attacker.tell(hello(await other.record('edge-z')))),
    /the record is of another identity than the connection/,
  )
  assert.ok(!server.tunnel.status().records.some(({ name }) => name === 'edge-z'))
  assert.ok(server.log.some(({ level, message }) => level === 'error' && message.startsWith('name record refused')))
  await assertWhole()
})

test('one identity holds one name, and an old record of its own does not bring another one back', async () => {
  await using attacker = await Attacker.create()
  const names = () =>
    server.tunnel.status().records.flatMap(({ name, peerId }) => (peerId === attacker.peerId ? [name] : []))
  for (const [name, sequence] of [
    ['x-1', 5],
    ['x-2', 6],
    ['x-3', 7],
    ['x-1', 5],
  ] as const) {
    await attacker.tell(hello(await attacker.record(name, sequence)))
  }
  assert.deepEqual(names(), ['x-3'])
})

test('two servers that disagree about a name do not move who knows it, and the claim is told', async () => {
  await using attacker = await Attacker.create()
  await using second = await startTestServer(folder, { name: 'second' })
  const stream = await (await attacker.connect(second.port)).openStream(
    directoryProtocol,
    AbortSignal.timeout(patienceMs),
  )
  await writeFrame(stream, hello(await attacker.record('edge-b', 2 ** 50)), AbortSignal.timeout(patienceMs))
  await eventually(
    'the second server believes it',
    () => second.tunnel.status().records.some(({ name }) => name === 'edge-b'),
    patienceMs,
  )
  const first = `127.0.0.1:${server.port}`
  await a.tunnel.reload({ servers: [first, `127.0.0.1:${second.port}`], relayNodes: [] })
  const told = () => a.log.some(({ fields }) => fields.reason?.includes(`${attacker.peerId} claims it`) === true)
  await eventually('the claim is told', told, patienceMs)
  const ofB = a.tunnel.status().peers.find(({ name }) => name === 'edge-b')?.peerId
  assert.equal(ofB, b.tunnel.status().peerId)
  await assertWhole()
  await a.tunnel.reload({ servers: [first], relayNodes: [] })
})

test('who has no name, or asks for what is no endpoint, reaches nothing', async () => {
  await using attacker = await Attacker.create()
  const connection = await attacker.connect(portOf(b))
  const ask = async (address: string, nodeName = 'edge-b') => {
    const signal = AbortSignal.timeout(patienceMs)
    const stream = await connection.openStream(flowProtocol, signal)
    try {
      await openMessages.request(stream, { protocol: 'tcp', nodeName, address, port: targetPort }, signal)
    } finally {
      stream.destroy()
    }
  }
  await assert.rejects(ask('10.1.1.1'), { failure: 'forbidden', message: /knows no node with the identity/ })
  await attacker.tell(hello(await attacker.record('evil')))
  await eventually('it has a name', () => knows(b, 'evil'), patienceMs)
  for (const address of ['127.0.0.1', '169.254.169.254', '0.0.0.0', '224.0.0.1', '::1', '::ffff:127.0.0.1']) {
    await assert.rejects(ask(address), { failure: 'forbidden' }, address)
  }
  await assert.rejects(ask('10.1.1.1', 'edge-a'), { failure: 'forbidden', message: /this is edge-b/ })
  await assert.rejects(ask('10.1.1.9'), { failure: 'unknown-target' })
  await assertWhole()
})

test('a relay joins nobody without a name, and nobody more often than it may', async () => {
  await using attacker = await Attacker.create()
  const connection = await attacker.connect(server.port)
  const ask = async (peer: string) => {
    const stream = await connection.openStream(spliceAskProtocol, AbortSignal.timeout(patienceMs))
    await writeFrame(stream, { peer }, AbortSignal.timeout(patienceMs))
    const answer = await answerOn(stream)
    stream.destroy()
    const { token, error = 'no answer' } = Object(answer) as { readonly token?: string; readonly error?: string }
    return token === undefined ? error : 'joined'
  }
  const ofB = b.tunnel.status().peerId
  assert.match(await ask(ofB), /this relay knows no node with the identity/)
  const session = await connection.openStream(directoryProtocol, AbortSignal.timeout(patienceMs))
  await writeFrame(session, hello(await attacker.record('evil-2')), AbortSignal.timeout(patienceMs))
  await eventually(
    'it has a name',
    () => server.tunnel.status().records.some(({ name }) => name === 'evil-2'),
    patienceMs,
  )
  const answers: string[] = []
  for (let count = 0; count <= connectionsPerNode; count++) answers.push(await ask(ofB))
  assert.ok(answers.includes('joined'))
  assert.match(answers.at(-1) ?? '', new RegExp(`has ${connectionsPerNode} connections through the relay already`))
  const stranger = '12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X'
  assert.match(await ask(stranger), /the peer is not connected to this relay/)
  assert.equal(await ask('nobody'), 'no answer')
})

/** Who is refused goes while those who came first are still there, with whom nothing but patience would have ended. */
async function assertRefused(
  what: string,
  first: readonly { destroyed: boolean }[],
  all: readonly { destroyed: boolean }[],
  count: number,
) {
  const gone = () => all.filter(({ destroyed }) => destroyed).length
  await eventually(`${count} ${what} are refused`, () => gone() >= count, patienceMs)
  assert.ok(
    first.every(({ destroyed }) => !destroyed),
    `${gone()} of ${all.length} ${what} have ended, also those that came first`,
  )
}

for (const [protocol, limit, at] of [
  [directoryProtocol, 4, 'server'],
  [spliceAskProtocol, 64, 'server'],
  [dialBackProtocol, 2, 'server'],
  [linkAskProtocol, 16, 'edge-b'],
  [punchProtocol, 16, 'edge-b'],
  [spliceOfferProtocol, 64, 'edge-b'],
] as const) {
  test(`one connection to ${at} has at most ${limit} streams of ${protocol}`, async () => {
    await using attacker = await Attacker.create()
    const connection = await attacker.connect(at === 'server' ? server.port : portOf(b))
    const streams = await attacker.openSilent(connection, protocol, limit + 8)
    await assertRefused('streams', streams.slice(0, limit), streams, 8)
    assert.ok(connection.isOpen)
    await assertWhole()
  })
}

/** Connects from one of the addresses of this machine, says something or nothing, and waits. */
async function connectFrom(localAddress: string, words: Uint8Array = new Uint8Array()): Promise<Socket> {
  const socket = connect({ port: server.port, host: '127.0.0.1', localAddress })
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(words)
  return socket
}

async function connectOften(addresses: readonly string[], each: number, say?: () => Uint8Array): Promise<Socket[]> {
  const sockets: Socket[] = []
  for (let count = 0; count < each; count++) {
    for (const address of addresses) sockets.push(await connectFrom(address, say?.()))
  }
  return sockets
}

/** What looks like the beginning of a handshake, and no more. */
const nonce = () => randomBytes(24)

for (const [what, addresses, limit, each, say] of [
  ['connections of one address that say nothing', ['127.0.0.1'], 256, 300, undefined],
  [
    'connections that say nothing',
    ['127.0.0.2', '127.0.0.3', '127.0.0.4', '127.0.0.5', '127.0.0.6'],
    1024,
    220,
    undefined,
  ],
  ['handshakes of one address', ['127.0.0.1'], connectionLimits.handshakesPerAddress, 300, nonce],
  ['handshakes', ['127.0.0.2', '127.0.0.3', '127.0.0.4'], connectionLimits.handshakes, 190, nonce],
] as const) {
  test(`${what} are bounded, and end`, async () => {
    const sockets = await connectOften(addresses, each, say)
    await assertRefused(what, sockets.slice(0, limit), sockets, sockets.length - limit)
    if (addresses.length === 1) {
      await assertWhole()
      for (const socket of sockets) socket.destroy()
    }
    await eventually('they have had their time', () => sockets.every(({ destroyed }) => destroyed), patienceMs)
    await assertWhole()
  })
}

test('streams of all protocols together are bounded on one connection, and those that say nothing end', async () => {
  const tunnelLimitConfig = {
    enable: true,
    tunnelBaseStreamIn: 100,
    tunnelBaseStreamOut: 100,
    tunnelPeerBaseStreamIn: 16,
    tunnelPeerBaseStreamOut: 16,
  }
  await using c = await startTestAgent(folder, 'edge-d', server.port, { config: { tunnelLimitConfig } })
  await using attacker = await Attacker.create()
  const connection = await attacker.connect(portOf(c))
  const flows = await attacker.openSilent(connection, flowProtocol, 1000)
  const others = await attacker.openSilent(connection, spliceOfferProtocol, 60)
  await assertRefused('streams', [...flows, ...others.slice(0, 20)], [...flows, ...others], 10)
  await eventually('they have had their time', () => flows.every(({ destroyed }) => destroyed), patienceMs)
})

test('one identity has so many connections; others come in meanwhile', async () => {
  await using attacker = await Attacker.create()
  const connections: PeerConnection[] = []
  let lost = 0
  for (let count = 0; count < connectionLimits.perPeer + 8; count++) {
    const connection = await attacker.connect(server.port).catch(() => undefined)
    if (connection === undefined) lost += 1
    else connections.push(connection)
    void connection?.whenClosed().then(() => (lost += 1))
  }
  await eventually('those beyond the limit are closed', () => lost >= 8, patienceMs)
  assert.equal(connections.filter(({ isOpen }) => isOpen).length, connectionLimits.perPeer)
  await using other = await Attacker.create()
  const refused = await other.tell(hello(await other.record('edge-b')))
  assert.match(String(Reflect.get(Object(refused), 'reason')), /belongs to another identity/)
  await assertWhole()
})

test('one peer has so many flows to a node, and all together have so many; others find room meanwhile', async () => {
  const tunnelLimitConfig = {
    enable: true,
    tunnelBaseStreamIn: 10,
    tunnelBaseStreamOut: 10,
    tunnelPeerBaseStreamIn: 6,
    tunnelPeerBaseStreamOut: 6,
  }
  await using c = await startTestAgent(folder, 'edge-c', server.port, { config: { tunnelLimitConfig } })
  await using target = await startTcpServer((socket) => void socket.resume())
  c.serve('10.1.1.1', target.port)
  await using one = await Attacker.create()
  await using two = await Attacker.create()
  await using three = await Attacker.create()
  const member = async (attacker: Attacker, name: string) => {
    await attacker.tell(hello(await attacker.record(name)))
    await eventually('it has a name', () => knows(c, name), patienceMs)
    const connection = await attacker.connect(portOf(c))
    const open = async () => {
      const signal = AbortSignal.timeout(patienceMs)
      const stream = (await connection.openStream(flowProtocol, signal)).on('error', () => {})
      const request = { protocol: 'tcp', nodeName: 'edge-c', address: '10.1.1.1', port: target.port } as const
      return await openMessages.request(stream, request, signal).then(
        () => 'open',
        (error: unknown) => String(Reflect.get(Object(error), 'failure')),
      )
    }
    return { connection, open }
  }
  const outcomesOf = async (open: () => Promise<string>, count: number) => {
    const outcomes: string[] = []
    for (let opened = 0; opened < count; opened++) outcomes.push(await open())
    return outcomes.join(' ')
  }
  const [first, second, third] = [
    await member(one, 'evil-3'),
    await member(two, 'evil-4'),
    await member(three, 'evil-5'),
  ]
  assert.equal(await outcomesOf(first.open, 7), 'open open open open open open overloaded')
  assert.equal(await outcomesOf(second.open, 5), 'open open open open overloaded')
  assert.equal(await third.open(), 'overloaded')
  first.connection.abort(new Error('leaves'))
  const deadline = performance.now() + patienceMs
  while ((await third.open()) === 'overloaded') assert.ok(performance.now() < deadline, 'no room is found')
})
