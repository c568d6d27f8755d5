import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { copyDirection } from './copy-direction.ts'
import type { ByteStream } from './dialer.ts'
import { createDirectDialer } from './direct-dialer.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

const never = new AbortController().signal

async function tcpPair(resources: AsyncDisposableStack): Promise<[ByteStream, ByteStream]> {
  const accepted = Promise.withResolvers<TcpSocket>()
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve }))
  const dialled = await createDirectDialer().dial({ protocol: 'tcp', address: '127.0.0.1', port: listener.port }, never)
  resources.defer(() => void dialled.destroy())
  return [dialled, await accepted.promise]
}

const hashOf = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex')

/** Sends in pieces so small and slow that each is one read. */
async function send(stream: ByteStream, bytes: Buffer, pieceBytes: number): Promise<void> {
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    if (!stream.write(bytes.subarray(at, at + pieceBytes))) await once(stream, 'drain')
    await new Promise(setImmediate)
  }
  stream.end()
}

async function receive(stream: ByteStream, lateMs: number): Promise<Buffer> {
  await delay(lateMs)
  const chunks: Buffer[] = []
  for await (const chunk of stream) {
    chunks.push(chunk)
    if (chunks.length % 8 === 0) await new Promise(setImmediate)
  }
  return Buffer.concat(chunks)
}

test('many connections that carry little share a buffer, and none sees bytes of another', async () => {
  await using resources = new AsyncDisposableStack()
  const carried = Array.from({ length: 8 }, async (_, index) => {
    const [client, from] = await tcpPair(resources)
    const [to, server] = await tcpPair(resources)
    const direction = copyDirection(from, to)
    // More than the kernel holds, so that writes to a late reader wait for a while.
    const isLate = index % 2 === 1
    const bytes = randomBytes((isLate ? 12 << 20 : 1 << 20) + index)
    const received = receive(server, isLate ? 500 : 0)
    await send(client, bytes, isLate ? 8_000 : 500 + index * 997)
    assert.equal(hashOf(await received), hashOf(bytes), `connection ${index}`)
    assert.equal(direction.bytes, bytes.length)
  })
  await Promise.all(carried)
})

test('a stream that is no socket may hold on to what it was given', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, from] = await tcpPair(resources)
  const [otherClient, otherFrom] = await tcpPair(resources)
  const held: Buffer[] = []
  const keeper: ByteStream = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      held.push(chunk)
      setImmediate(done)
    },
  })
  copyDirection(from, keeper)
  const other = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() })
  copyDirection(otherFrom, other)
  const bytes = randomBytes(3 << 20)
  await Promise.all([
    send(client, bytes, 30_000),
    send(otherClient, Buffer.alloc(3 << 20, 'x'), 64_000),
    once(keeper, 'finish'),
    once(other, 'finish'),
  ])
  assert.equal(hashOf(Buffer.concat(held)), hashOf(bytes))
})

test('what came before the copying began comes first', async () => {
  await using resources = new AsyncDisposableStack()
  const [client, from] = await tcpPair(resources)
  const [to, server] = await tcpPair(resources)
  client.write('early ')
  await once(from, 'readable')
  from.unshift(Buffer.from('earlier and '))
  copyDirection(from, to)
  client.end('late')
  assert.equal((await receive(server, 0)).toString(), 'earlier and early late')
})
