import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { Duplex } from 'node:stream'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { bulkBuffers } from './buffer-pool.ts'
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

/** Hashes what it is given, later, and gives the buffers back. */
class Returner extends Duplex {
  readonly returnsBuffers = true
  readonly hash = createHash('sha256')

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    setImmediate(() => {
      this.hash.update(chunk)
      bulkBuffers.give(chunk)
      done()
    })
  }
}

test('streams that give buffers back get the bytes of their own connection alone', async () => {
  await using resources = new AsyncDisposableStack()
  const carried = Array.from({ length: 4 }, async (_, index) => {
    const [client, from] = await tcpPair(resources)
    const to = new Returner()
    copyDirection(from, to)
    const bytes = randomBytes((6 << 20) + index)
    await Promise.all([send(client, bytes, 500_000), once(to, 'finish')])
    assert.equal(to.hash.digest('hex'), hashOf(bytes))
  })
  await Promise.all(carried)
})

/** Lends all that it is told from one buffer, and notes how much is on its way. */
class LendingStream extends Duplex {
  readonly #lent = Buffer.alloc(16_384)
  #borrower: { onBytes(bytes: Buffer): void; readonly heldBytes: number } | undefined
  passed = 0

  override _read(): void {}

  lendTo(borrower: { onBytes(bytes: Buffer): void; readonly heldBytes: number }): () => void {
    this.#borrower = borrower
    return () => {
      this.passed += 1
    }
  }

  get heldBytes(): number {
    return this.#borrower?.heldBytes ?? 0
  }

  tell(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += this.#lent.length) {
      const size = bytes.copy(this.#lent, 0, at)
      this.#borrower?.onBytes(this.#lent.subarray(0, size))
    }
    this.#lent.fill('x')
  }
}

test('lent bytes reach a late reader whole and before the end, and are known until the kernel has them', async () => {
  await using resources = new AsyncDisposableStack()
  const [to, server] = await tcpPair(resources)
  const from = new LendingStream()
  const direction = copyDirection(from, to)
  const bytes = randomBytes((8 << 20) + 7)
  const received = receive(server, 300)
  for (let at = 0; at < bytes.length; at += 1_000_003) {
    from.tell(bytes.subarray(at, at + 1_000_003))
    await new Promise(setImmediate)
  }
  assert.ok(from.heldBytes > 0, 'the reader is late')
  from.push(null)
  assert.equal(hashOf(await received), hashOf(bytes))
  assert.deepEqual([from.heldBytes, direction.bytes], [0, bytes.length])
  assert.ok(from.passed > 0)
})
