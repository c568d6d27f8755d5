import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { createMemoryStreamPair } from './memory-stream.ts'
import { resetStream } from './reset-stream.ts'
import { startTcpListener } from './tcp-listener.ts'

const reason = new Error('on purpose')

async function tcpPair(resources: AsyncDisposableStack): Promise<[Socket, Socket]> {
  const accepted = Promise.withResolvers<Socket>()
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve }))
  const client = connect({ host: '127.0.0.1', port: listener.port, allowHalfOpen: true })
  resources.defer(() => void client.destroy())
  await once(client, 'connect')
  return [client, await accepted.promise]
}

async function errorOf(stream: Socket): Promise<string | undefined> {
  stream.resume()
  const [error] = await once(stream, 'error')
  return error.code
}

test('the far side of a TCP connection sees a reset', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  resetStream(server, reason)
  assert.equal(await errorOf(client), 'ECONNRESET')
})

test('a reset in the tick of the end of our direction leaves no handle, and the far side cannot write on', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  const closed = once(server, 'close')
  server.end('bye')
  resetStream(server, reason)
  await closed
  client.write('are you there?')
  assert.match((await errorOf(client)) ?? '', /EPIPE|ECONNRESET/)
})

test('after our direction has ended a reset still reaches a far side that writes', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  server.end()
  await once(server, 'finish')
  const closed = once(server, 'close')
  resetStream(server, reason)
  await closed
  client.write('are you there?')
  assert.match((await errorOf(client)) ?? '', /EPIPE|ECONNRESET/)
})

test('unsent bytes do not hold a reset back', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  client.pause()
  while (server.write(Buffer.alloc(1 << 20))) await new Promise(setImmediate)
  server.end()
  const closed = once(server, 'close')
  resetStream(server, reason)
  await closed
  assert.equal(await errorOf(client), 'ECONNRESET')
})

test('a stream that is no TCP socket is destroyed with the error', async () => {
  const [left, right] = createMemoryStreamPair()
  const failed = once(right, 'error')
  resetStream(left, reason)
  assert.equal((await failed)[0].code, 'ECONNRESET')
  assert.equal(left.errored, reason)
})

test('a Unix socket, which knows no reset, is destroyed', async () => {
  const server = createServer((socket) => resetStream(socket, reason)).listen(`\0edgemesh-test-reset-${process.pid}`)
  await once(server, 'listening')
  const client = connect(`\0edgemesh-test-reset-${process.pid}`)
  client.on('error', () => {})
  client.resume()
  await once(client, 'close')
  server.close()
  await once(server, 'close')
})

test('a second reset, and one of a closed stream, do nothing', async () => {
  await using resources = new AsyncDisposableStack()
  const [, server] = await tcpPair(resources)
  const closed = once(server, 'close')
  resetStream(server, reason)
  resetStream(server, reason)
  await closed
  resetStream(server, reason)
  assert.ok(server.destroyed)
})
