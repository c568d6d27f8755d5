import assert from 'node:assert/strict'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { readInto } from './bulk-read.ts'
import type { ByteStream } from './dialer.ts'
import { createDirectDialer } from './direct-dialer.ts'
import { createMemoryStreamPair } from './memory-stream.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

const never = new AbortController().signal

async function tcpPair(resources: AsyncDisposableStack): Promise<[ByteStream, ByteStream]> {
  const accepted = Promise.withResolvers<TcpSocket>()
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve }))
  const dialled = await createDirectDialer().dial({ protocol: 'tcp', address: '127.0.0.1', port: listener.port }, never)
  resources.defer(() => void dialled.destroy())
  return [dialled, await accepted.promise]
}

test('a TCP socket of this version of Node reads into the buffer, stops, goes on and ends', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  const buffer = Buffer.alloc(4)
  const seen: string[] = []
  let isReading = true
  let told = Promise.withResolvers<void>()
  assert.ok(
    readInto(server, {
      buffer,
      onRead(bytes) {
        seen.push(buffer.toString('latin1', 0, bytes))
        told.resolve()
        told = Promise.withResolvers()
        return isReading
      },
    }),
  )
  server.on('data', () => assert.fail('the bytes went elsewhere'))
  server.resume()
  let heard = told.promise
  client.write('abc')
  await heard
  isReading = false
  heard = told.promise
  client.write('defgh')
  await heard
  for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
  assert.equal(seen.join(''), 'abcdefg')
  isReading = true
  heard = told.promise
  server.resume()
  await heard
  const ended = once(server, 'end')
  client.end('i')
  await ended
  assert.equal(seen.join(''), 'abcdefghi')
  server.end('answer')
  assert.equal(await text(client), 'answer')
})

test('a reader that changes its buffer has the next read there', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, server] = await tcpPair(resources)
  const [first, second] = [Buffer.alloc(3), Buffer.alloc(8)]
  const reader = {
    buffer: first,
    onRead(bytes: number) {
      assert.equal(bytes, this.buffer === first ? 3 : 5)
      this.buffer = second
      return true
    },
  }
  assert.ok(readInto(server, reader))
  const ended = once(server, 'end')
  server.resume()
  client.end('abcdefgh')
  await ended
  assert.equal(first.toString(), 'abc')
  assert.equal(second.toString('latin1', 0, 5), 'defgh')
})

test('what is no TCP socket, has unread bytes or reads so already is left as it is', async () => {
  await using resources = new AsyncDisposableStack()
  const reader = { buffer: Buffer.alloc(4), onRead: () => true }
  const [memory] = createMemoryStreamPair()
  assert.equal(readInto(memory, reader), false)
  const [client, server] = await tcpPair(resources)
  server.unshift(Buffer.from('unread'))
  assert.equal(readInto(server, reader), false)
  client.end(' and more')
  assert.equal(await text(server), 'unread and more')
  assert.equal(readInto(client, reader), true)
  assert.equal(readInto(client, reader), false)
})
