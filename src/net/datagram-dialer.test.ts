import assert from 'node:assert/strict'
import { Socket } from 'node:dgram'
import { test } from 'node:test'
import { openDatagramSocket } from './datagram.ts'
import { createDirectDatagramDialer, createNodeAwareDatagramDialer } from './datagram-dialer.ts'
import { type DatagramDialer, DialError } from './dialer.ts'

const never = new AbortController().signal
const dialer = createDirectDatagramDialer()

/** A socket on loopback that answers each datagram with itself. */
async function startEcho(resources: AsyncDisposableStack): Promise<number> {
  const socket = resources.use(
    await openDatagramSocket({
      address: '127.0.0.1',
      port: 0,
      onError() {},
      onMessage: (message, from) => socket.send(message, from),
    }),
  )
  return socket.port
}

test('a channel carries datagrams both ways until it is disposed', async () => {
  await using resources = new AsyncDisposableStack()
  const port = await startEcho(resources)
  const channel = await dialer.dialDatagrams({ protocol: 'udp', address: '127.0.0.1', port }, never)
  const answered = new Promise<string>((resolve) => channel.onMessage((message) => resolve(String(message))))
  channel.send(Buffer.from('hello'))
  assert.equal(await answered, 'hello')
  channel[Symbol.dispose]()
  assert.equal(await channel.closed, undefined)
  channel.send(Buffer.from('too late'))
})

test('a target that does not listen ends the channel with a refusal', async () => {
  await using resources = new AsyncDisposableStack()
  const free = await openDatagramSocket({ address: '127.0.0.1', port: 0, onMessage() {}, onError() {} })
  await free[Symbol.asyncDispose]()
  const channel = await dialer.dialDatagrams({ protocol: 'udp', address: '127.0.0.1', port: free.port }, never)
  resources.use(channel)
  channel.send(Buffer.from('hello'))
  const reason = await channel.closed
  assert.ok(reason instanceof DialError)
  assert.equal(reason.failure, 'refused')
  assert.match(reason.message, new RegExp(`ECONNREFUSED 127.0.0.1:${free.port}`))
})

test('a datagram that is too long is lost, and the channel lives on', async () => {
  await using resources = new AsyncDisposableStack()
  const port = await startEcho(resources)
  const channel = resources.use(await dialer.dialDatagrams({ protocol: 'udp', address: '127.0.0.1', port }, never))
  const answered = new Promise<string>((resolve) => channel.onMessage((message) => resolve(String(message))))
  channel.send(Buffer.alloc(70_000))
  channel.send(Buffer.from('short'))
  assert.equal(await answered, 'short')
})

test('a node without ports or descriptors left says so, and the dial ends', async (context) => {
  const error = Object.assign(new Error('bind EMFILE 0.0.0.0'), { code: 'EMFILE' })
  context.mock.method(Socket.prototype, 'bind', function (this: Socket) {
    this.emit('error', error)
    return this
  })
  await assert.rejects(
    dialer.dialDatagrams({ protocol: 'udp', address: '127.0.0.1', port: 53 }, never),
    (failed) => failed instanceof DialError && failed.failure === 'overloaded' && failed.cause === error,
  )
})

test('a client whose datagrams come from port 0 gets no answer, and the others get theirs', async () => {
  await using resources = new AsyncDisposableStack()
  const port = await startEcho(resources)
  const answered = Promise.withResolvers<string>()
  const socket = resources.use(
    await openDatagramSocket({
      address: '127.0.0.1',
      port: 0,
      onError() {},
      onMessage: (message) => answered.resolve(String(message)),
    }),
  )
  socket.send(Buffer.from('nobody'), { address: '127.0.0.1', port: 0 })
  socket.send(Buffer.from('hello'), { address: '127.0.0.1', port })
  assert.equal(await answered.promise, 'hello')
})

test('what cannot be dialled is refused before anything is sent', async () => {
  for (const target of [
    { protocol: 'tcp', address: '127.0.0.1', port: 53 },
    { protocol: 'udp', address: 'localhost', port: 53 },
    { protocol: 'udp', address: '127.0.0.1', port: 0 },
  ] as const) {
    await assert.rejects(
      dialer.dialDatagrams(target, never),
      (error) => error instanceof DialError && error.failure === 'forbidden',
    )
  }
  await assert.rejects(
    dialer.dialDatagrams({ protocol: 'udp', address: '127.0.0.1', port: 53 }, AbortSignal.abort(new Error('late'))),
    /late/,
  )
})

test('targets on this node and on none go one way, all others the other', async () => {
  const asked: string[] = []
  const noting = (name: string): DatagramDialer => ({
    dialDatagrams({ nodeName }) {
      asked.push(`${name} ${nodeName}`)
      return Promise.reject(new Error('only noted'))
    },
  })
  const both = createNodeAwareDatagramDialer('here', noting('direct'), noting('remote'))
  for (const nodeName of ['here', 'there', undefined]) {
    const target = { protocol: 'udp', nodeName, address: '10.0.0.1', port: 53 } as const
    await assert.rejects(both.dialDatagrams(target, never), /only noted/)
  }
  assert.deepEqual(asked, ['direct here', 'remote there', 'direct undefined'])
})
