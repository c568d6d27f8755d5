/**
 * What a peer that holds the pre-shared key can do to us over links, and what peers of other keys and versions meet:
 *
 *     attacker ---- raw frames in TLS ----> link table of `victim` ---- flows ----> a target that counts
 */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import process from 'node:process'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { type ByteStream, connectTcp } from '../../src/net/index.ts'
import { encodeOffset, FrameBatch, frameType, maxPayloadBytes } from '../../src/tunnel/links/frame.ts'
import { greet } from '../../src/tunnel/links/handshake.ts'
import { type Hello, linkVersions, maxHelloBytes } from '../../src/tunnel/links/hello.ts'
import { handshakeLimits } from '../../src/tunnel/links/link-table.ts'
import { createLinkTls } from '../../src/tunnel/links/tls.ts'
import { WindowBudget } from '../../src/tunnel/links/window-budget.ts'
import {
  createLinkCredentials,
  type LinkEnd,
  type LinkEndOptions,
  openFlow,
  relayAddress,
  relayedPath,
  startLinkEnd,
} from './link-end.ts'
import { eventually } from './tunnel-mesh.ts'

const secret = randomBytes(32)
const megabyte = 1024 * 1024
const signal = AbortSignal.timeout(120_000)

/** An end of a mesh with a key. */
async function startEnd(name: string, options: LinkEndOptions = {}): Promise<LinkEnd> {
  return await startLinkEnd(name, { preSharedKey: secret, ...options })
}

async function join(from: LinkEnd, to: LinkEnd, localAddress = '127.0.0.1', path = 'direct'): Promise<void> {
  const socket = connect({ port: to.port, host: '127.0.0.1', localAddress })
  await once(socket, 'connect')
  await from.table.dial({ socket, path }, to.credentials.identity.peerId, 'shared', signal)
}

/** A member of the mesh that sends whatever it likes. */
class Attacker {
  readonly socket: TLSSocket
  received = 0
  #nextId: number

  private constructor(socket: TLSSocket, firstId: number) {
    this.socket = socket
    this.#nextId = firstId
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      this.received += chunk.length
    })
  }

  static async join(victim: LinkEnd, claims: Partial<Hello> = {}): Promise<Attacker> {
    const credentials = await createLinkCredentials(secret)
    const { peerId } = credentials.identity
    const victimId = victim.credentials.identity.peerId
    const raw = await connectTcp('127.0.0.1', victim.port, signal)
    const socket = await createLinkTls().secure(raw, 'client', signal)
    const session = randomBytes(8).toString('hex')
    const own = {
      versions: linkVersions,
      capabilities: ['move', 'datagrams'],
      name: 'attacker',
      role: 'agent',
    } as const
    const hello: Hello = { ...own, peerId, sequence: 1, session, kind: 'shared', ...claims }
    await greet(socket, victimId, { credentials, versions: linkVersions, hello, refusalOf: () => undefined }, signal)
    return new Attacker(socket, peerId < victimId ? 1 : 2)
  }

  send(...frames: readonly (readonly [number, number, Uint8Array?])[]): void {
    const batch = new FrameBatch()
    for (const [type, flow, payload] of frames) batch.add(type, flow, payload)
    for (const part of batch.take()) this.socket.write(part)
  }

  async open(victim: LinkEnd): Promise<{ readonly id: number; readonly stream: ByteStream }> {
    const id = this.#nextId
    this.#nextId += 2
    const before = victim.incoming.length
    const open = { protocol: 'tcp', nodeName: 'x', address: '10.1.1.1', port: 80 }
    this.send([frameType.open, id, Buffer.from(JSON.stringify({ open }))])
    await eventually('the flow arrives', () => victim.incoming.length > before)
    const stream = await victim.incoming.at(-1)?.accept(signal)
    assert.ok(stream)
    return { id, stream }
  }

  async closed(): Promise<void> {
    await eventually('the link is closed', () => this.socket.closed, 20_000)
  }
}

test('a flow that sends more than it has credit for ends the link, and what it sent stays within the credit', async () => {
  await using victim = await startEnd('victim')
  const attacker = await Attacker.join(victim)
  const { id, stream } = await attacker.open(victim)
  stream.pause()
  const piece = Buffer.alloc(64 * 1024)
  attacker.send(...Array.from({ length: 64 }, () => [frameType.data, id, piece] as const))
  await attacker.closed()
  assert.match(victim.ends.join(), /sends more than it has credit for/)
  assert.ok(stream.destroyed)
  assert.ok(victim.table.heldBytes <= megabyte, `${victim.table.heldBytes} bytes are held`)
})

const validOpen = Buffer.from(
  JSON.stringify({ open: { protocol: 'tcp', nodeName: 'x', address: '10.1.1.1', port: 80 } }),
)

/** Why a link ends; else it could be for something that is wrong as well. */
const reasons: Readonly<Record<string, RegExp>> = {
  'a flow number that is ours': /flow \d+ cannot be opened by the peer/,
  'a flow number twice': /flow \d+ cannot be opened by the peer/,
  'a request that is not JSON': /not JSON/,
  'a move backwards': /a flow cannot move at 3/,
  'five moves ahead of the bytes': /a flow cannot move at 5/,
  'a damaged credit': /an offset is damaged/,
  'bytes after the end': /sends more than it has credit for/,
}

for (const [what, frames] of Object.entries({
  'a flow number that is ours': (id: number) => [[frameType.open, id + 1, validOpen]],
  'a flow number twice': (id: number) => [[frameType.open, id, validOpen]],
  'a request that is not JSON': (id: number) => [[frameType.open, id + 2, Buffer.from('x')]],
  'a request for what cannot be': (id: number) => [[frameType.open, id + 2, Buffer.from('{"open":{"port":0}}')]],
  'a move backwards': (id: number) => [
    [frameType.data, id, Buffer.alloc(10)],
    [frameType.move, id, encodeOffset(3)],
  ],
  'five moves ahead of the bytes': (id: number) =>
    [1, 2, 3, 4, 5].map((offset) => [frameType.move, id, encodeOffset(offset)]),
  'a damaged credit': (id: number) => [[frameType.credit, id, Buffer.alloc(3)]],
  'bytes after the end': (id: number) => [
    [frameType.fin, id],
    [frameType.data, id, Buffer.alloc(1)],
  ],
} satisfies Record<string, (id: number) => (readonly [number, number, Uint8Array?] | (number | Buffer)[])[]>)) {
  test(`${what} ends the link, and the node lives on`, async () => {
    await using victim = await startEnd('victim')
    const attacker = await Attacker.join(victim)
    const { id } = await attacker.open(victim)
    attacker.send(...(frames(id) as [number, number, Uint8Array?][]))
    await attacker.closed()
    assert.match(victim.ends.join(), reasons[what] ?? /link ended/)
    const next = await Attacker.join(victim)
    await next.open(victim)
    next.socket.destroy()
  })
}

test('frames of unknown types and for unknown flows are skipped', async () => {
  await using victim = await startEnd('victim')
  const attacker = await Attacker.join(victim)
  attacker.send([99, 1, Buffer.alloc(100)], [frameType.data, 7777, Buffer.alloc(1000)], [frameType.reset, 7778])
  attacker.send([frameType.credit, 7779, encodeOffset(1)], [frameType.datagram, 7780, Buffer.alloc(9)])
  const { stream } = await attacker.open(victim)
  assert.ok(!stream.destroyed)
  attacker.socket.destroy()
})

test('a peer that asks for what was never sent, or again and again, loses its flow and no more', async () => {
  await using victim = await startEnd('victim')
  const attacker = await Attacker.join(victim, { capabilities: ['move', 'datagrams', 'resume'] })
  const { id, stream } = await attacker.open(victim)
  stream.write('some bytes')
  for (let count = 1; count <= 1000; count++) attacker.send([frameType.resume, id, encodeOffset(0, count)])
  attacker.send([frameType.resume, 7777, encodeOffset(0, 1)], [frameType.resume, id, encodeOffset(0, 1)])
  await attacker.open(victim)
  assert.ok(!stream.destroyed)
  attacker.send([frameType.resume, id, encodeOffset(11, 2000)])
  await eventually('the flow is over', () => stream.destroyed)
  await attacker.open(victim)
  attacker.socket.destroy()
})

test('a peer that makes us answer but reads nothing is cut off', async () => {
  await using victim = await startEnd('victim')
  const attacker = await Attacker.join(victim)
  // Not before it flows again after the handshake, which would undo it.
  await new Promise((resolve) => setImmediate(resolve))
  attacker.socket.pause()
  const pings = Array.from({ length: 20_000 }, () => [frameType.ping, 0, Buffer.alloc(8)] as const)
  const before = process.memoryUsage().arrayBuffers
  // More than the kernel takes for somebody who reads nothing.
  for (let round = 0; round < 400 && !attacker.socket.destroyed; round++) {
    attacker.send(...pings)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await attacker.closed()
  assert.match(victim.ends.join(), /the peer makes us answer, but does not read/)
  assert.ok(process.memoryUsage().arrayBuffers - before < 64 * megabyte)
})

test('a frame that is longer than any may be ends the link before its bytes have come', async () => {
  await using victim = await startEnd('victim')
  const attacker = await Attacker.join(victim)
  const head = Buffer.alloc(8)
  head.writeUInt32BE(((frameType.open << 24) | (maxPayloadBytes + 1)) >>> 0, 4)
  attacker.socket.write(head)
  await attacker.closed()
  assert.match(victim.ends.join(), /a frame of 65537 bytes is too long/)
})

test('a HELLO that is longer than any may be is refused before its bytes have come', async () => {
  await using victim = await startEnd('victim')
  const socket = await createLinkTls().secure(await connectTcp('127.0.0.1', victim.port, signal), 'client', signal)
  const head = Buffer.alloc(8)
  head.writeUInt32BE(((frameType.hello << 24) | (maxHelloBytes + 1)) >>> 0, 4)
  socket.on('error', () => {}).write(head)
  await eventually('it is refused', () => victim.log.length > 0)
  assert.match(victim.log.join(), /a HELLO of 4097 bytes cannot be/)
  socket.destroy()
})

for (const [what, addresses, limit] of [
  ['of one address', ['127.0.0.1'], handshakeLimits.perPeer],
  ['of all addresses', ['127.0.0.2', '127.0.0.3', '127.0.0.4'], handshakeLimits.total],
] as const) {
  test(`handshakes ${what} are bounded, others come in as far as there is room, and they end after some time`, async () => {
    await using victim = await startEnd('victim')
    await using friend = await startEnd('friend')
    const sockets: Socket[] = []
    for (let count = 0; count < limit + 20; count++) {
      const localAddress = addresses[count % addresses.length] ?? ''
      const socket = connect({ port: victim.port, host: '127.0.0.1', localAddress }).on('error', () => {})
      sockets.push(socket)
      await once(socket.resume(), 'connect')
    }
    const ended = () => sockets.filter(({ destroyed }) => destroyed).length
    await eventually('those beyond the limit are closed', () => ended() >= 20, 20_000)
    assert.ok(
      sockets.slice(0, limit).every(({ destroyed }) => !destroyed),
      'and the first ones are not',
    )
    const reachable = connect({ port: victim.port, host: '127.0.0.1', localAddress: '127.0.0.9' }).on('error', () => {})
    await (addresses.length === 1 ? join(friend, victim, '127.0.0.9') : once(reachable.resume(), 'close'))
    assert.ok(
      sockets.slice(0, limit).every(({ destroyed }) => !destroyed),
      'nobody had to wait for their end',
    )
    for (const socket of addresses.length === 1 ? [reachable, ...sockets] : [reachable]) socket.destroy()
    if (addresses.length === 1) return
    await eventually('they have had their time', () => ended() === sockets.length, 20_000)
    await join(friend, victim)
  })
}

test('many flows with readers that are stuck cannot hold more than the budget', async () => {
  const limits = {
    growthBytes: 4 * megabyte,
    pressureBytes: megabyte,
    maxHeldBytes: 2 * megabyte,
    maxReplayBytes: megabyte,
  }
  await using victim = await startEnd('victim', { budget: new WindowBudget(limits) })
  const attacker = await Attacker.join(victim)
  const streams: ByteStream[] = []
  let highest = 0
  for (let count = 0; count < 100; count++) {
    const { id, stream } = await attacker.open(victim)
    stream.pause()
    streams.push(stream)
    attacker.send([frameType.data, id, Buffer.alloc(60 * 1024)])
    await new Promise((resolve) => setImmediate(resolve))
    highest = Math.max(highest, victim.table.heldBytes)
  }
  await eventually('all has arrived', () => streams.some(({ destroyed }) => destroyed))
  assert.ok(highest <= limits.maxHeldBytes, `${highest} bytes were held`)
  assert.ok(
    streams.some(({ destroyed }) => !destroyed),
    'those that fit live on',
  )
  attacker.socket.destroy()
})

test('a peer gets so many links and no more', async () => {
  await using victim = await startEnd('victim')
  await using friend = await startEnd('friend')
  for (let count = 0; count < 6; count++) await join(friend, victim)
  await assert.rejects(join(friend, victim), /there are 6 shared links already/)
  await eventually('both know', () => [victim, friend].every(({ ends }) => ends.join().includes('6 shared links')))
  assert.deepEqual([victim.log, friend.log], [[], []], 'nobody is to blame')
})

test('a connection that is closed before it says anything is no reason to warn', async () => {
  await using victim = await startEnd('victim')
  const tls = await createLinkTls().secure(await connectTcp('127.0.0.1', victim.port, signal), 'client', signal)
  tls.end()
  await eventually('it is noticed', () => victim.ends.some((line) => line.startsWith('no link')))
  assert.deepEqual(victim.log, [])
})

test('however many relayed links a peer has, a direct one is welcome', async () => {
  await using victim = await startEnd('victim')
  await using friend = await startEnd('friend')
  const joinRelayed = () => join(friend, victim, relayAddress, relayedPath)
  for (let count = 0; count < 6; count++) await joinRelayed()
  await assert.rejects(joinRelayed(), /there are 6 shared links already/)
  for (const end of [friend, victim]) assert.equal([...end.table.all][0]?.best()?.isDirect, false)
  await join(friend, victim)
  for (const end of [friend, victim]) assert.equal([...end.table.all][0]?.best()?.isDirect, true)
})

test('a name that belongs to another identity is refused, also with the pre-shared key', async () => {
  await using victim = await startEnd('victim', { owners: { 'edge-a': 'somebody else' } })
  await assert.rejects(Attacker.join(victim, { name: 'edge-a' }), /the name edge-a belongs to another identity/)
  assert.match(victim.log.join(), /link refused: the name edge-a belongs/)
})

test('another pre-shared key is refused, and both logs name it with a remedy', async () => {
  await using left = await startEnd('left')
  await using right = await startEnd('right', { preSharedKey: randomBytes(32) })
  await assert.rejects(join(left, right), { name: 'HelloError', isKeyMismatch: true })
  for (const { log } of [left, right]) {
    await eventually('it is logged', () => log.length > 0)
    assert.match(log.join(), /link refused: pre-shared key mismatch: .*pre-shared keys.*sha256sum/)
  }
})

test('during a rotation a node links with those that have one of its two keys alone, and with others that have both', async () => {
  const key = { preSharedKey: randomBytes(32), previousKey: secret }
  await using rotated = await startEnd('rotated', key)
  await using old = await startEnd('old')
  await using renewed = await startEnd('renewed', { preSharedKey: key.preSharedKey })
  await using other = await startEnd('other', key)
  for (const peer of [old, renewed, other]) {
    await join(rotated, peer)
    await join(peer, rotated)
  }
  await assert.rejects(join(old, renewed), { name: 'HelloError', isKeyMismatch: true })
})

test('a node speaks with one of the version before, and with one that knows no moves', async () => {
  const ours = { lowest: 1, highest: 2 }
  await using newer = await startEnd('newer', { versions: ours })
  await using older = await startEnd('older', { versions: { lowest: 1, highest: 1 }, capabilities: [] })
  for (const [from, to] of [
    [newer, older],
    [older, newer],
  ] as const) {
    await join(from, to)
    const [opened, accepted] = await openFlow(from, to)
    // Longer than what makes a flow move where both ends can.
    const sent = randomBytes(9 * megabyte)
    opened.end(sent)
    const received = Buffer.concat(await accepted.toArray())
    assert.ok(received.equals(sent))
    opened.destroy()
    accepted.destroy()
  }
})

test('nodes without a version in common refuse each other and say so', async () => {
  await using left = await startEnd('left', { versions: { lowest: 3, highest: 4 } })
  await using right = await startEnd('right')
  await assert.rejects(join(left, right), /no version of the link protocol in common: here 1, there 3 to 4/)
})

test('five hundred idle flows cost two connections and little memory', async () => {
  await using left = await startEnd('left')
  await using right = await startEnd('right')
  for (let count = 0; count < 2; count++) await join(left, right)
  await openFlow(left, right)
  const before = process.memoryUsage()
  const flows: ByteStream[] = []
  for (let count = 0; count < 500; count++) {
    const [opened, accepted] = await openFlow(left, right)
    opened.write('hello')
    await once(accepted, 'data')
    flows.push(opened, accepted)
  }
  const after = process.memoryUsage()
  // Both ends live in this process, and garbage is counted as well.
  const cost = after.heapUsed + after.external - before.heapUsed - before.external
  assert.ok(cost < 2 * 20 * megabyte, `${(cost / megabyte).toFixed(1)} MB`)
  assert.equal([...(left.table.peer(right.credentials.identity.peerId)?.links ?? [])].length, 2)
  for (const flow of flows) flow.destroy()
})

test('idle links are let go by both ends, and no flow is lost by that', async () => {
  await using left = await startEnd('left')
  await using right = await startEnd('right')
  await join(left, right)
  const peer = left.table.peer(right.credentials.identity.peerId)
  const [link] = peer?.links ?? []
  assert.ok(peer && link)
  const [opened, accepted] = await openFlow(left, right)
  peer.retire(link)
  await new Promise((resolve) => setTimeout(resolve, 1500))
  assert.ok(link.isOpen, 'a link with a flow on it stays')
  opened.end('last words')
  accepted.end()
  assert.equal(String(Buffer.concat(await accepted.toArray())), 'last words')
  opened.resume()
  await eventually('the link is closed', () => !link.isOpen, 10_000)
  assert.equal(peer.links.size, 0)
})

test('a link that is abandoned says no farewell, so that its ports are free at once', async () => {
  await using near = await startEnd('near', { resumeMs: 500 })
  await using far = await startEnd('far', { resumeMs: 500 })
  await join(near, far)
  const [opened, accepted] = await openFlow(near, far)
  const ended = once(accepted, 'error')
  opened.on('error', () => {})
  const [link] = near.table.peer(far.credentials.identity.peerId)?.links ?? []
  link?.abandon(new Error('nothing was heard for 12 s'))
  const [error]: unknown[] = await ended
  assert.match(String(Reflect.get(Object(error), 'cause')), /ECONNRESET/)
})
