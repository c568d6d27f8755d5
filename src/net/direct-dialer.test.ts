import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { DialError, type Dialer, type DialTarget } from './dialer.ts'
import { createDirectDialer, createNodeAwareDialer } from './direct-dialer.ts'
import { createMemoryStreamPair } from './memory-stream.ts'
import { resetStream } from './reset-stream.ts'
import { isSelfConnection } from './self-connection.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

const never = new AbortController().signal
const dialer = createDirectDialer()

async function listen(onConnection: (socket: TcpSocket) => void = () => {}) {
  const listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection })
  const target: DialTarget = { protocol: 'tcp', address: '127.0.0.1', port: listener.port }
  return { target, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() }
}

test('what the server says at once, and its end, wait for whoever takes the stream', async () => {
  await using server = await listen((socket) => void socket.end('220 ready'))
  const stream = await dialer.dial(server.target, never)
  await delay(20)
  assert.equal(await text(stream), '220 ready')
  stream.end()
})

test('the stream is half open: ending our direction leaves the other one', async () => {
  await using server = await listen((socket) => void text(socket).then((request) => socket.end(`got ${request}`)))
  const stream = await dialer.dial(server.target, never)
  stream.end('all')
  assert.equal(await text(stream), 'got all')
})

test('a port where nobody listens refuses, and the message says which', async () => {
  const { target, ...listener } = await listen()
  await listener[Symbol.asyncDispose]()
  await assert.rejects(dialer.dial(target, never), (error) => {
    assert.ok(error instanceof DialError)
    assert.equal(error.failure, 'refused')
    assert.equal(error.message, `connect ECONNREFUSED 127.0.0.1:${target.port}`)
    return true
  })
})

test('an address without a route is unreachable', async () => {
  // The loopback source cannot leave the node, so the kernel answers without a packet on any wire.
  const fromLoopback = createDirectDialer({ localAddress: '127.0.0.1' })
  const target: DialTarget = { protocol: 'tcp', address: '203.0.113.1', port: 9 }
  await assert.rejects(fromLoopback.dial(target, never), { name: 'DialError', failure: 'unreachable' })
})

test('targets that are no dialable TCP address are forbidden and never looked up', async () => {
  const odd: DialTarget[] = [
    { protocol: 'udp', address: '127.0.0.1', port: 53 },
    { protocol: 'tcp', address: 'localhost', port: 80 },
    { protocol: 'tcp', address: '', port: 80 },
    { protocol: 'tcp', address: '127.0.0.1', port: 0 },
    { protocol: 'tcp', address: '127.0.0.1', port: 65_536 },
    { protocol: 'tcp', address: '127.0.0.1', port: 1.5 },
  ]
  for (const target of odd) {
    await assert.rejects(dialer.dial(target, never), { name: 'DialError', failure: 'forbidden' })
  }
})

test('the source address can be chosen', async () => {
  const accepted = Promise.withResolvers<Socket>()
  await using server = await listen(accepted.resolve)
  const stream = await createDirectDialer({ localAddress: '127.0.0.7' }).dial(server.target, never)
  assert.equal((await accepted.promise).remoteAddress, '127.0.0.7')
  stream.destroy()
})

test('the signal ends a dial with its reason', async () => {
  await using server = await listen()
  await assert.rejects(dialer.dial(server.target, AbortSignal.abort(new Error('too late'))), /too late/)
  const controller = new AbortController()
  const dialling = dialer.dial(server.target, controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(dialling, /enough/)
})

test('an abort after the dial leaves the stream alone', async () => {
  await using server = await listen((socket) => void socket.end('hello'))
  const controller = new AbortController()
  const stream = await dialer.dial(server.target, controller.signal)
  controller.abort(new Error('late'))
  assert.equal(await text(stream), 'hello')
  stream.end()
})

test('a stream that fails before anybody listens to it does not end the process', async () => {
  await using server = await listen((socket) => resetStream(socket, new Error('on purpose')))
  const dialling = dialer.dial(server.target, never)
  const outcome = await dialling.then(
    async (stream) => {
      if (!stream.closed) await new Promise((resolve) => stream.once('close', resolve))
      return (stream.errored as NodeJS.ErrnoException | null)?.code
    },
    (error: DialError) => (error.cause as NodeJS.ErrnoException).code,
  )
  assert.equal(outcome, 'ECONNRESET')
})

test('a connection that reached itself is told from one that only looks like it', async () => {
  await using server = await listen()
  const localAddress = '127.0.0.1'
  const other = connect({ host: localAddress, port: server.target.port, localAddress })
  await once(other, 'connect')
  assert.equal(isSelfConnection(other, other.remotePort ?? 0), false)
  other.destroy()

  const { target, ...listener } = await listen()
  await listener[Symbol.asyncDispose]()
  const self = connect({ host: localAddress, port: target.port, localAddress, localPort: target.port })
  await once(self, 'connect')
  assert.equal(isSelfConnection(self, self.remotePort ?? 0), true)
  self.destroy()
})

test('targets on another node go to the remote dialer, all others to the direct one', async () => {
  const asked: string[] = []
  const named = (name: string): Dialer => ({
    async dial() {
      asked.push(name)
      return createMemoryStreamPair()[0]
    },
  })
  const nodeAware = createNodeAwareDialer('edge-a', named('direct'), named('remote'))
  for (const nodeName of [undefined, 'edge-a', 'edge-b']) {
    await nodeAware.dial({ protocol: 'tcp', nodeName, address: '10.0.0.1', port: 80 }, never)
  }
  assert.deepEqual(asked, ['direct', 'direct', 'remote'])
})
