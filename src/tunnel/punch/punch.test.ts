import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import {
  type ByteStream,
  createMemoryStreamPair,
  type SocketAddress,
  startTcpListener,
  type TcpSocket,
} from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { TaskGroup } from '../../runtime/index.ts'
import { readBytes, readFrame, writeFrame } from '../frames.ts'
import { AppearanceWatch } from './appearance.ts'
import type { Appearance, Mapping } from './mapping.ts'
import { MeetingPoint } from './meeting.ts'
import { observationMagic, observe, serveObservations } from './observation.ts'
import { punchMagic } from './punch-messages.ts'
import { Puncher } from './puncher.ts'

const never = new AbortController().signal
const token = Buffer.alloc(16, 7).toString('base64url')
const otherToken = Buffer.alloc(16, 8).toString('base64url')

/** A listening port that hands connections out by their first eight bytes, as the host does. */
interface Port extends AsyncDisposable {
  readonly address: SocketAddress
  listeningPort(): number
  isProxied(connection: { readonly id: string }): boolean
  handleRaw(magic: string, onSocket: (socket: TcpSocket) => void): Disposable
  dialFromPort(target: SocketAddress, signal: AbortSignal): Promise<TcpSocket>
}

async function openPort(): Promise<Port> {
  const handlers = new Map<string, (socket: TcpSocket) => void>()
  const listener = await startTcpListener({
    host: '0.0.0.0',
    port: 0,
    reusePort: true,
    onConnection(socket) {
      const read = async () => {
        const magic = await readBytes(socket, 8, never).catch(() => undefined)
        handlers.get(magic?.toString('latin1') ?? '')?.(socket)
      }
      void read()
    },
  })
  return {
    address: { address: '127.0.0.1', port: listener.port },
    listeningPort: () => listener.port,
    isProxied: ({ id }) => id === 'proxied',
    handleRaw(magic, onSocket) {
      handlers.set(magic, onSocket)
      return { [Symbol.dispose]: () => void handlers.delete(magic) }
    },
    dialFromPort: (target, signal) => listener.dialFrom(target, signal),
    [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose](),
  }
}

/** Meets, and resolves with the first socket, which then ends the meeting. */
async function meet(point: MeetingPoint, secret: string, candidates: readonly SocketAddress[]): Promise<TcpSocket> {
  const met = new AbortController()
  const { promise, resolve } = Promise.withResolvers<TcpSocket>()
  const meeting = point.meet({ token: secret, candidates, signal: met.signal, onSocket: resolve })
  const socket = await promise
  met.abort()
  await meeting
  return socket
}

suite('two nodes that dial each other', () => {
  test('find each other in one connection between the listening ports', async () => {
    await using here = await openPort()
    await using there = await openPort()
    using pointHere = new MeetingPoint(here)
    using pointThere = new MeetingPoint(there)
    const sockets = await Promise.all([
      meet(pointHere, token, [there.address]),
      meet(pointThere, token, [here.address]),
    ])
    const [near, far] = sockets
    assert.deepEqual([near.localPort, near.remotePort], [here.address.port, there.address.port])
    assert.deepEqual([far.localPort, far.remotePort], [there.address.port, here.address.port])
    near.write('hello')
    assert.equal((await readBytes(far, 5, never))?.toString(), 'hello')
    for (const socket of sockets) socket.destroy()
  })

  test('find each other when only one knows where the other is', async () => {
    await using here = await openPort()
    await using there = await openPort()
    using pointHere = new MeetingPoint(here)
    using pointThere = new MeetingPoint(there)
    const sockets = await Promise.all([meet(pointHere, token, [there.address]), meet(pointThere, token, [])])
    assert.equal(sockets[1].remotePort, here.address.port)
    for (const socket of sockets) socket.destroy()
  })

  test('try again when they are refused', async () => {
    await using here = await openPort()
    const late = await openPort()
    const { address } = late
    await late[Symbol.asyncDispose]()
    using pointHere = new MeetingPoint(here)
    const meeting = meet(pointHere, token, [address])
    const again = await startTcpListener({
      host: '0.0.0.0',
      port: address.port,
      onConnection: (socket) => void socket.pipe(socket),
    })
    // It says the same as we do, as the peer would.
    const socket = await meeting
    assert.equal(socket.remotePort, address.port)
    socket.destroy()
    await again[Symbol.asyncDispose]()
  })

  test('turn away whoever does not know the token', async () => {
    await using here = await openPort()
    await using stranger = await openPort()
    using point = new MeetingPoint(here)
    const met = new AbortController()
    const sockets: TcpSocket[] = []
    const meeting = point.meet({ token, candidates: [], signal: met.signal, onSocket: (found) => sockets.push(found) })
    const socket = await stranger.dialFromPort(here.address, never)
    socket.write(Buffer.concat([Buffer.from(punchMagic), Buffer.from(otherToken, 'base64url')]))
    assert.equal(await readBytes(socket, 1, never).catch(() => undefined), undefined)
    met.abort()
    await meeting
    assert.deepEqual(sockets, [])
    socket.destroy()
  })

  test('leave when somebody else answers', async () => {
    await using here = await openPort()
    const { promise: isLeft, resolve: onLeft } = Promise.withResolvers<void>()
    const stranger = await startTcpListener({
      host: '0.0.0.0',
      port: 0,
      onConnection: (socket) => socket.once('close', onLeft).resume().write('who is there, and why here?'),
    })
    using point = new MeetingPoint(here)
    const met = new AbortController()
    const sockets: TcpSocket[] = []
    const candidates = [{ address: '127.0.0.1', port: stranger.port }]
    const meeting = point.meet({ token, candidates, signal: met.signal, onSocket: (found) => sockets.push(found) })
    await isLeft
    met.abort()
    await meeting
    assert.deepEqual(sockets, [])
    await stranger[Symbol.asyncDispose]()
  })
})

suite('how a node is seen', () => {
  test('is told by a server, again and again from the same port', async () => {
    await using here = await openPort()
    await using server = await openPort()
    using _serving = serveObservations(server)
    for (let round = 0; round < 3; round++) {
      assert.deepEqual(await observe(here, server.address, never), here.address)
    }
  })

  test('is told once and soon: who goes on talking holds no connection', (context) => {
    context.mock.timers.enable({ apis: ['setTimeout'] })
    let onSocket: (socket: TcpSocket) => void = () => {}
    const handleRaw = (_magic: string, take: typeof onSocket) => {
      onSocket = take
      return { [Symbol.dispose]() {} }
    }
    using _serving = serveObservations({ handleRaw })
    const [asker, socket] = createMemoryStreamPair()
    asker.on('error', () => {})
    onSocket(socket as unknown as TcpSocket)
    for (let second = 0; second < 3; second++) {
      asker.write('and')
      assert.equal(socket.destroyed, false)
      context.mock.timers.tick(1000)
    }
    assert.ok(socket.destroyed)
  })

  test('is an error when the server does not know how to tell', async () => {
    await using here = await openPort()
    await using server = await openPort()
    const serving = server.handleRaw(observationMagic, (socket) => socket.end())
    await assert.rejects(observe(here, server.address, never))
    serving[Symbol.dispose]()
  })

  test('is not known from servers in the own network, for they see nothing of the NAT', async () => {
    await using here = await openPort()
    await using server = await openPort()
    using _serving = serveObservations(server)
    const connection = { id: 'server', address: `/ip4/127.0.0.1/tcp/${server.address.port}`, isOutbound: true }
    const watchWith = (prefixLength: number) =>
      new AppearanceWatch({
        host: here,
        servers: () => [connection as never],
        interfaceAddresses: () => [{ address: '127.0.0.1', prefixLength }],
      })
    await assert.rejects(watchWith(8).current(never), /no server outside the network/)
    assert.deepEqual(await watchWith(32).current(never), { mapping: 'open', candidates: [here.address] })
  })
})

test('a node whose router has opened a port is seen there, and nobody is asked', async () => {
  await using here = await openPort()
  const mapped = { address: '203.0.113.9', port: 41_000 }
  const watch = new AppearanceWatch({
    host: here,
    servers: () => [],
    interfaceAddresses: () => [],
    mapped: () => mapped,
  })
  assert.deepEqual(await watch.current(never), { mapping: 'open', candidates: [mapped] })
  await assert.rejects(watch.ofPort(here, never), 'another port is not open')
})

test('how a node is seen cannot be told by servers that are reached through a proxy', async () => {
  await using here = await openPort()
  await using server = await openPort()
  using _serving = serveObservations(server)
  const serverAs = (id: string) => ({ id, address: `/ip4/127.0.0.1/tcp/${server.address.port}`, isOutbound: true })
  const watch = (...ids: string[]) =>
    new AppearanceWatch({
      host: here,
      servers: () => ids.map((id) => serverAs(id) as never),
      interfaceAddresses: () => [],
    }).current(never)
  await assert.rejects(watch('proxied'), /reached through an HTTP proxy, which opens no holes/)
  assert.deepEqual((await watch('proxied', 'server')).candidates, [here.address])
})

/** A node with a puncher, links that are only counted, and a relayed connection to one other node. */
interface Node extends AsyncDisposable {
  readonly puncher: Puncher
  readonly links: { path: string; side: 'client' | 'server'; kind: string; socket: TcpSocket }[]
  readonly linked: Promise<void>
  meetPeer(other: Pick<Node, 'onStream'>): void
  onStream(stream: ByteStream): void
  streams: number
  /** Peers that have traffic to this node. */
  readonly wantedDirect: readonly string[]
}

async function startNode(peerId: string, mapping: Mapping | Error): Promise<Node> {
  const port = await openPort()
  const tasks = new TaskGroup(() => {})
  const wantedDirect: string[] = []
  const links: Node['links'] = []
  const { promise: linked, resolve } = Promise.withResolvers<void>()
  let peer: Pick<Node, 'onStream'> | undefined
  let handler: ((stream: ByteStream, from: never) => void) | undefined
  const add = (link: Node['links'][number]) => {
    links.push(link)
    resolve()
  }
  const appearance: Appearance = { mapping: mapping as Mapping, candidates: [port.address] }
  const puncher = new Puncher({
    host: {
      ...port,
      peerId,
      handle: async ({ onStream }) => {
        handler = onStream as typeof handler
      },
    },
    table: {
      peer: () =>
        ({
          best: () => links[0] && { isDirect: true },
          usable: (kind: string) => links.filter((link) => link.kind === kind).map(() => ({ isDirect: true })),
          flowCount: 0,
        }) as never,
      dial: async ({ socket, path }, _, kind) => add({ path, side: 'client', kind, socket }) as never,
      accept: ({ socket, path }) => add({ path, side: 'server', kind: 'shared', socket }),
    },
    tasks,
    relayedConnection: () =>
      ({
        async openStream() {
          const [near, far] = createMemoryStreamPair()
          node.streams += 1
          peer?.onStream(far)
          return near
        },
      }) as never,
    appearance: async (_, from) => {
      if (mapping instanceof Error) throw mapping
      if (from === undefined) return appearance
      return { mapping, candidates: [{ address: '127.0.0.1', port: from.listeningPort() }] }
    },
    nameOf: (id) => `node ${id}`,
    wantDirect: (id) => void wantedDirect.push(id),
    logger: silentLogger,
  })
  await puncher.serve()
  const node: Node = {
    puncher,
    links,
    linked,
    streams: 0,
    wantedDirect,
    meetPeer: (other) => {
      peer = other
    },
    onStream: (stream) => handler?.(stream, { peerId: peerId === 'a' ? 'b' : 'a' } as never),
    async [Symbol.asyncDispose]() {
      await tasks[Symbol.asyncDispose]()
      puncher[Symbol.dispose]()
      await port[Symbol.asyncDispose]()
      for (const { socket } of links) socket.destroy()
    },
  }
  return node
}

async function startPair(lower: Mapping | Error, higher: Mapping | Error) {
  const [a, b] = await Promise.all([startNode('a', lower), startNode('b', higher)])
  a.meetPeer(b)
  b.meetPeer(a)
  return { a, b }
}

/** Until it says why there is no hole. */
async function failureOf(node: Node, peerId: string): Promise<string> {
  for (;;) {
    const error = node.puncher.lastErrorOf(peerId)
    if (error !== undefined) return error
    await new Promise((resolve) => setImmediate(resolve))
  }
}

suite('punching', () => {
  for (const starter of ['a', 'b'] as const) {
    test(`traffic at ${starter} makes a link, with the lower identity as its TLS client`, async () => {
      const pair = await startPair('preserving', 'preserving')
      await using a = pair.a
      await using b = pair.b
      pair[starter].puncher.want(starter === 'a' ? 'b' : 'a', 'shared')
      await Promise.all([a.linked, b.linked])
      assert.deepEqual(
        a.links.map(({ path, side }) => `${path} ${side}`),
        ['punched client'],
      )
      assert.deepEqual(
        b.links.map(({ path, side }) => `${path} ${side}`),
        ['punched server'],
      )
      assert.equal(a.puncher.lastErrorOf('b'), undefined)
    })
  }

  test('a node without a NAT is reached directly, whatever the NAT of the other does', async () => {
    const pair = await startPair('randomising', 'open')
    await using a = pair.a
    await using b = pair.b
    a.puncher.want('b', 'shared')
    await Promise.all([a.linked, b.linked])
    assert.equal(a.links[0]?.path, 'direct')
    assert.deepEqual(b.wantedDirect, ['a'], 'who is asked may be able to dial')
    assert.equal(b.links[0]?.path, 'direct')
  })

  test('a NAT that changes ports is named on both sides, and nobody dials', async () => {
    const pair = await startPair('preserving', 'randomising')
    await using a = pair.a
    await using b = pair.b
    a.puncher.want('b', 'shared')
    assert.match(await failureOf(a, 'b'), /NAT of the other side changes ports/)
    assert.match(await failureOf(b, 'a'), /NAT of this side changes ports/)
    assert.deepEqual([a.links.length, b.links.length], [0, 0])
  })

  test('the other side says why it cannot', async () => {
    const pair = await startPair('preserving', new Error('no server can tell'))
    await using a = pair.a
    await using _b = pair.b
    a.puncher.want('b', 'shared')
    assert.match(await failureOf(a, 'b'), /the other side: no server can tell/)
  })

  test('a direct link that stands is enough', async () => {
    const pair = await startPair('preserving', 'preserving')
    await using a = pair.a
    await using b = pair.b
    a.puncher.want('b', 'shared')
    await Promise.all([a.linked, b.linked])
    const { streams } = a
    a.puncher.want('b', 'shared')
    b.puncher.want('a', 'shared')
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(a.streams, streams)
    assert.equal(b.streams, 0)
  })

  test('after a failure it waits, unless something has changed', async () => {
    const pair = await startPair('preserving', 'randomising')
    await using a = pair.a
    await using _b = pair.b
    a.puncher.want('b', 'shared')
    await failureOf(a, 'b')
    a.puncher.want('b', 'shared')
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(a.streams, 1)
    while (a.streams === 1) {
      a.puncher.changed()
      await new Promise((resolve) => setImmediate(resolve))
    }
    assert.equal(a.streams, 2)
  })

  for (const starter of ['a', 'b'] as const) {
    test(`a further link that ${starter} wants runs from a port of its own at the lower identity`, async () => {
      const pair = await startPair('preserving', 'preserving')
      await using a = pair.a
      await using b = pair.b
      a.puncher.want('b', 'shared')
      await Promise.all([a.linked, b.linked])
      pair[starter].puncher.want(starter === 'a' ? 'b' : 'a', 'bulk')
      while (a.links.length < 2 || b.links.length < 2) await new Promise((resolve) => setImmediate(resolve))
      assert.deepEqual(
        a.links.map(({ path, side, kind }) => `${path} ${side} ${kind}`),
        ['punched client shared', 'punched client bulk'],
      )
      const [first, second] = a.links
      assert.notEqual(second?.socket.localPort, first?.socket.localPort)
      assert.equal(second?.socket.remotePort, first?.socket.remotePort)
    })
  }

  test('a further link is not sought while the first one does not stand', async () => {
    const pair = await startPair('preserving', 'preserving')
    await using a = pair.a
    await using _b = pair.b
    a.puncher.want('b', 'datagram')
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(a.streams, 0)
  })
})

/** A node as they were before further links, by the messages it says and takes: it knows no kinds, and has one port. */
async function startOlderNode() {
  const port = await openPort()
  const meeting = new MeetingPoint(port)
  const heard: unknown[] = []
  const sockets: TcpSocket[] = []
  const seen = { mapping: 'preserving', candidates: [port.address] }
  const stopped = new AbortController()
  const { signal } = stopped
  const hear = async (stream: ByteStream, type?: string) => {
    const message = Object(await readFrame(stream, 2048, signal))
    heard.push(message)
    if (type !== undefined) assert.equal(message.type, type)
    return message
  }
  const say = (stream: ByteStream, message: object) => writeFrame(stream, message, signal)
  const meetAt = async (secret: string, candidates: readonly SocketAddress[]) => {
    sockets.push(await meet(meeting, secret, candidates))
  }
  const lead = async (stream: ByteStream) => {
    await say(stream, { type: 'punch', token, seen })
    const answer = await hear(stream)
    await say(stream, { type: 'ping' })
    await hear(stream, 'pong')
    await say(stream, { type: 'go' })
    await meetAt(token, answer.seen.candidates)
  }
  const follow = async (stream: ByteStream) => {
    const offer = await hear(stream, 'punch')
    assert.ok(['open', 'preserving', 'stable', 'unknown', 'randomising'].includes(offer.seen.mapping))
    await say(stream, { seen })
    await hear(stream, 'ping')
    await say(stream, { type: 'pong' })
    await hear(stream, 'go')
    await meetAt(offer.token, offer.seen.candidates)
  }
  return {
    heard,
    sockets,
    lead,
    follow,
    say,
    hear,
    async [Symbol.asyncDispose]() {
      stopped.abort()
      meeting[Symbol.dispose]()
      await port[Symbol.asyncDispose]()
      for (const socket of sockets) socket.destroy()
    },
  }
}

suite('a node that knows no further links', () => {
  test('follows the first link and further ones, with the higher identity', async () => {
    await using older = await startOlderNode()
    await using newer = await startNode('a', 'preserving')
    newer.meetPeer({ onStream: (stream) => void older.follow(stream) })
    newer.puncher.want('b', 'shared')
    await newer.linked
    newer.puncher.want('b', 'bulk')
    while (newer.links.length < 2 || older.sockets.length < 2) await new Promise((resolve) => setImmediate(resolve))
    const [first, second] = older.sockets
    assert.equal(second?.localPort, first?.localPort, 'it has one port')
    assert.notEqual(second?.remotePort, first?.remotePort)
  })

  test('leads the first link for one that asks, with the lower identity', async () => {
    await using older = await startOlderNode()
    await using newer = await startNode('b', 'preserving')
    const asked = new Promise<void>((resolve) => {
      newer.meetPeer({ onStream: (stream) => void older.hear(stream, 'want').then(() => resolve()) })
    })
    newer.puncher.want('a', 'shared')
    await asked
    const [near, far] = createMemoryStreamPair()
    newer.onStream(far)
    await older.lead(near)
    await newer.linked
    assert.equal(newer.links[0]?.path, 'punched')
  })

  test('takes a wish for a further link for one that is fulfilled, and the first link stays', async () => {
    await using older = await startOlderNode()
    await using newer = await startNode('b', 'preserving')
    const [near, far] = createMemoryStreamPair()
    newer.onStream(far)
    await older.lead(near)
    await newer.linked
    const asked = new Promise<void>((resolve) => {
      newer.meetPeer({ onStream: (stream) => void older.hear(stream, 'want').then(() => resolve()) })
    })
    newer.puncher.want('a', 'datagram')
    await asked
    assert.deepEqual([newer.links.length, newer.links[0]?.socket.destroyed], [1, false])
  })

  test('has its wish without a kind taken for one for the first link', async () => {
    await using older = await startOlderNode()
    await using newer = await startNode('a', 'preserving')
    newer.meetPeer({ onStream: (stream) => void older.follow(stream) })
    const [near, far] = createMemoryStreamPair()
    newer.onStream(far)
    await older.say(near, { type: 'want' })
    await newer.linked
    assert.equal(newer.links[0]?.kind, 'shared')
    while (older.sockets.length === 0) await new Promise((resolve) => setImmediate(resolve))
  })
})
