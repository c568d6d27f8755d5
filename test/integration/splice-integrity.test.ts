/**
 * Bytes stay what they are: eight connections at once through the userspace proxy, 100 MB each, in pieces of random
 * length, to readers that fall behind now and then, in both directions at a time.
 *
 *     client -> userspace proxy -> server
 */
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type ByteStream, createDirectDialer, startTcpListener } from '../../src/net/index.ts'
import { createMetrics, silentLogger } from '../../src/observability/index.ts'
import { placed } from '../../src/proxy/places.fixture.ts'
import { startUserspaceProxy } from '../../src/proxy/userspace/userspace-proxy.ts'

const streams = 8
const bytesEach = 100 << 20
const answerEach = 20 << 20
const never = new AbortController().signal
const block = randomBytes(1 << 20)

/** Writes so many bytes in pieces of 1 byte to 256 KiB and ends; gives their hash. */
async function send(stream: ByteStream, bytes: number, seed: number): Promise<string> {
  const hash = createHash('sha256')
  let state = seed
  for (let left = bytes; left > 0; ) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    const length = Math.min(left, 1 + (state % (256 << 10)))
    // Copied and marked, so that no two pieces are alike and none is changed while it is under way.
    const piece = Buffer.from(block.subarray(state % (block.length >> 1), (state % (block.length >> 1)) + length))
    if (piece.length >= 4) piece.writeUInt32LE(left >>> 0)
    hash.update(piece)
    left -= piece.length
    if (!stream.write(piece)) await once(stream, 'drain')
  }
  stream.end()
  return hash.digest('hex')
}

async function receive(stream: ByteStream, pauseEvery: number): Promise<string> {
  const hash = createHash('sha256')
  let sincePause = 0
  for await (const chunk of stream) {
    hash.update(chunk)
    sincePause += chunk.length
    if (sincePause < pauseEvery) continue
    sincePause = 0
    await delay(5)
  }
  return hash.digest('hex')
}

test('eight streams of 100 MB arrive unchanged at slow readers, while answers come back', async () => {
  await using resources = new AsyncDisposableStack()
  const received: Promise<string>[] = []
  const answered: Promise<string>[] = []
  const server = resources.use(
    await startTcpListener({
      host: '127.0.0.1',
      port: 0,
      onConnection(socket) {
        received.push(receive(socket, 4 << 20))
        answered.push(send(socket, answerEach, socket.remotePort ?? 1))
      },
    }),
  )
  const proxy = resources.use(
    await startUserspaceProxy({
      host: '0.0.0.0',
      port: 0,
      dialer: createDirectDialer(),
      balancing: 'random',
      dialTimeoutMs: 10_000,
      logger: silentLogger,
      metrics: createMetrics(),
    }),
  )
  const backend = { address: '127.0.0.1', port: server.port }
  await proxy.setRoutes(
    placed(proxy, [['127.0.0.2', { id: 'shop/web:80/tcp', protocol: 'tcp', preferred: [backend], others: [] }]]),
  )
  const clients = await Promise.all(
    Array.from({ length: streams }, (_, index) =>
      createDirectDialer()
        .dial({ protocol: 'tcp', address: '127.0.0.2', port: proxy.ports[0] ?? 0 }, never)
        .then((client) => ({ got: receive(client, 2 << 20), sent: send(client, bytesEach, index + 1) })),
    ),
  )
  const sent = await Promise.all(clients.map((client) => client.sent))
  const got = await Promise.all(clients.map((client) => client.got))
  assert.deepEqual((await Promise.all(received)).sort(), sent.sort())
  assert.deepEqual(got.sort(), (await Promise.all(answered)).sort())
  assert.equal(new Set(sent).size, streams)
})
