import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { test } from 'node:test'
import { exchangeDatagram, openDatagramSocket, type SocketAddress } from './datagram.ts'
import { AddressInUseError } from './listen-error.ts'
import { exchangeMessage, type MessageServerOptions, startMessageServer } from './message-server.ts'

const address = '127.0.0.1'
const never = new AbortController().signal
/** Resolves when the connection is over, in whatever way. */
const closed = (socket: Socket) =>
  new Promise<void>((resolve) => socket.on('error', () => {}).once('close', () => resolve()))

const frame = (text: string) => Buffer.from([text.length >> 8, text.length & 0xff, ...Buffer.from(text)])
const options = { timeoutMs: 5000, signal: never, accept: () => true }

function startEcho(changes: Partial<MessageServerOptions> = {}) {
  const onMessage = (message: Buffer) => Buffer.from(`echo ${message}`)
  return startMessageServer({ address, port: 0, idleTimeoutMs: 5000, maxConnections: 10, onMessage, ...changes })
}

function openEcho(onMessage?: (message: Buffer, from: SocketAddress) => void) {
  const reply = (message: Buffer, from: SocketAddress) => echo.then((socket) => socket.send(message, from))
  const echo = openDatagramSocket({ address, port: 0, onMessage: onMessage ?? reply, onError: assert.ifError })
  return echo
}

test('a datagram is answered by the server it was sent to', async () => {
  await using server = await openEcho()
  const answer = await exchangeDatagram({ address, port: server.port }, Buffer.from('hello'), options)
  assert.equal(answer.toString(), 'hello')
})

test('datagrams that are not accepted, and those of strangers, are not the answer', async () => {
  await using stranger = await openEcho()
  await using server = await openEcho((message, from) => {
    stranger.send(Buffer.from('right, but from the wrong port'), from)
    server.send(Buffer.from('wrong'), from)
    server.send(Buffer.from(`right ${message}`), from)
  })
  const accept = (message: Buffer) => message.toString().startsWith('right')
  const answer = await exchangeDatagram({ address, port: server.port }, Buffer.from('x'), { ...options, accept })
  assert.equal(answer.toString(), 'right x')
})

test('each exchange of datagrams uses a port of its own', async () => {
  const ports = new Set<number>()
  await using server = await openEcho((message, from) => {
    ports.add(from.port)
    server.send(message, from)
  })
  const target = { address, port: server.port }
  await Promise.all(Array.from({ length: 8 }, () => exchangeDatagram(target, Buffer.from('x'), options)))
  assert.equal(ports.size, 8)
})

test('silence ends in a timeout, a closed port at once, and an abort with its reason', async () => {
  await using silent = await openEcho(() => {})
  const target = { address, port: silent.port }
  const soon = { ...options, timeoutMs: 20 }
  await assert.rejects(exchangeDatagram(target, Buffer.from('x'), soon), { code: 'ETIMEDOUT' })
  const stopping = new AbortController()
  const waiting = exchangeDatagram(target, Buffer.from('x'), { ...options, signal: stopping.signal })
  stopping.abort(new Error('stopping'))
  await assert.rejects(waiting, /stopping/)
  const closed = await openEcho()
  await closed[Symbol.asyncDispose]()
  const refused = exchangeDatagram({ address, port: closed.port }, Buffer.from('x'), options)
  await assert.rejects(refused, { code: 'ECONNREFUSED' })
  closed.send(Buffer.from('too late'), target)
})

test('a taken port is an error of its own, for datagrams and messages', async () => {
  await using socket = await openEcho()
  const again = openDatagramSocket({ address, port: socket.port, onMessage() {}, onError: assert.ifError })
  await assert.rejects(again, AddressInUseError)
  await using server = await startEcho()
  await assert.rejects(startEcho({ port: server.port }), AddressInUseError)
})

test('messages that come in pieces or together are answered one by one', async () => {
  await using server = await startEcho()
  const socket = connect(server.port, address)
  const bytes = Buffer.concat([frame('one'), frame('two'), frame('three')])
  socket.write(bytes.subarray(0, 1))
  socket.write(bytes.subarray(1, 7))
  socket.end(bytes.subarray(7))
  const received = Buffer.concat(await socket.toArray())
  assert.deepEqual(received, Buffer.concat([frame('echo one'), frame('echo two'), frame('echo three')]))
})

test('a slow answer does not hold back the next one, and a client that is done sending gets both', async () => {
  const gate = Promise.withResolvers<Buffer>()
  const onMessage = (message: Buffer) => (message.toString() === 'slow' ? gate.promise : Buffer.from('fast'))
  await using server = await startEcho({ onMessage })
  const socket = connect({ port: server.port, host: address, allowHalfOpen: true })
  socket.end(Buffer.concat([frame('slow'), frame('quick')]))
  const [first] = (await once(socket, 'data')) as [Buffer]
  assert.deepEqual(first, frame('fast'))
  gate.resolve(Buffer.from('late'))
  assert.deepEqual(Buffer.concat(await socket.toArray()), frame('late'))
})

test('a client may pipeline far more than is worked on at once', async () => {
  let underWay = 0
  let most = 0
  const onMessage = async (message: Buffer) => {
    most = Math.max(most, ++underWay)
    await new Promise(setImmediate)
    underWay--
    return message
  }
  await using server = await startEcho({ onMessage })
  const socket = connect(server.port, address)
  const messages = Array.from({ length: 1000 }, (_, index) => frame(`message ${index}`))
  socket.end(Buffer.concat(messages))
  assert.equal(Buffer.concat(await socket.toArray()).length, Buffer.concat(messages).length)
  assert.equal(most, 32)
})

test('a message without an answer, and one that sets off an error, close the connection', async () => {
  for (const onMessage of [() => undefined, () => Promise.reject(new Error('boom'))]) {
    await using server = await startEcho({ onMessage })
    const socket = connect(server.port, address)
    socket.write(frame('x'))
    assert.deepEqual(await socket.toArray(), [])
  }
})

test('an idle connection is closed, also one that drips bytes without completing a message', async () => {
  await using server = await startEcho({ idleTimeoutMs: 60 })
  const socket = connect(server.port, address)
  const over = closed(socket)
  socket.write(Buffer.from([0]))
  const drip = setInterval(() => socket.write('x'), 10)
  socket.write(Buffer.from([255]))
  await over
  clearInterval(drip)
})

test('connections beyond the limit are closed at once and the others stay', async () => {
  await using server = await startEcho({ maxConnections: 1 })
  const first = connect(server.port, address)
  await once(first, 'connect')
  first.write(frame('a'))
  await once(first, 'data')
  const second = connect(server.port, address)
  await closed(second)
  first.write(frame('b'))
  const [answer] = (await once(first, 'data')) as [Buffer]
  assert.deepEqual(answer, frame('echo b'))
  first.destroy()
})

test('disposal closes connections that are open', async () => {
  const server = await startEcho()
  const socket = connect(server.port, address)
  await once(socket, 'connect')
  socket.write(frame('x'))
  await once(socket, 'data')
  const over = closed(socket)
  assert.equal(server.connections, 1)
  await server[Symbol.asyncDispose]()
  await over
  assert.equal(server.connections, 0)
})

test('a message over TCP is answered, refused, or times out', async () => {
  await using server = await startEcho()
  const answer = await exchangeMessage({ address, port: server.port }, Buffer.from('hello'), options)
  assert.equal(answer.toString(), 'echo hello')
  const picky = { ...options, timeoutMs: 20, accept: () => false }
  await assert.rejects(exchangeMessage({ address, port: server.port }, Buffer.from('x'), picky), { code: 'ETIMEDOUT' })
  await using mute = await startEcho({ onMessage: () => undefined })
  const closing = exchangeMessage({ address, port: mute.port }, Buffer.from('x'), options)
  await assert.rejects(closing, /closed without an answer|ECONNRESET/)
})
