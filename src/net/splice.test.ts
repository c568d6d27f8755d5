import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { ByteStream } from './dialer.ts'
import { createDirectDialer } from './direct-dialer.ts'
import { createMemoryStreamPair } from './memory-stream.ts'
import { resetStream } from './reset-stream.ts'
import { splice } from './splice.ts'
import { startTcpListener } from './tcp-listener.ts'

const never = new AbortController().signal

/** client -- downstream [splice] upstream -- server, in memory. */
function spliced(signal: AbortSignal = never, highWaterMark = 16) {
  const [client, downstream] = createMemoryStreamPair({ highWaterMark })
  const [upstream, server] = createMemoryStreamPair({ highWaterMark })
  return { client, server, downstream, upstream, result: splice(downstream, upstream, signal) }
}

/** Two ends of one TCP connection on loopback. */
async function tcpPair(resources: AsyncDisposableStack): Promise<[ByteStream, ByteStream]> {
  const accepted = Promise.withResolvers<Socket>()
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve }))
  const target = { protocol: 'tcp', address: listener.address, port: listener.port } as const
  const dialled = await createDirectDialer().dial(target, never)
  resources.defer(() => void dialled.destroy())
  return [dialled, await accepted.promise]
}

/** Waits for the end of a stream, in order or not, and gives the error's code. */
function endOf(stream: ByteStream): Promise<string | undefined> {
  stream.on('error', () => {})
  return new Promise((resolve) => {
    stream.once('close', () => resolve((stream.errored as NodeJS.ErrnoException | null)?.code))
  })
}

async function tcpSpliced(resources: AsyncDisposableStack) {
  const [client, downstream] = await tcpPair(resources)
  const [upstream, server] = await tcpPair(resources)
  return { client, server, result: splice(downstream, upstream, never) }
}

test('the client may end first and still receive the whole answer', async () => {
  const { client, server, result } = spliced()
  client.end('question')
  assert.equal(await text(server), 'question')
  server.end('a rather long answer')
  assert.equal(await text(client), 'a rather long answer')
  assert.deepEqual(await result, { ended: 'finished', bytesToUpstream: 8, bytesToDownstream: 20 })
})

test('the server may end first and still receive all that the client sends', async () => {
  const { client, server, result } = spliced()
  server.end('greeting')
  assert.equal(await text(client), 'greeting')
  client.end('upload')
  assert.equal(await text(server), 'upload')
  assert.equal((await result).ended, 'finished')
})

test('a reset of the client resets the server', async () => {
  const { client, server, result } = spliced()
  client.destroy()
  assert.equal(await endOf(server), 'ECONNRESET')
  assert.equal((await result).ended, 'downstream-reset')
})

test('a reset of the server resets the client', async () => {
  const { client, server, result } = spliced()
  server.destroy()
  assert.equal(await endOf(client), 'ECONNRESET')
  const { ended, error } = await result
  assert.equal(ended, 'upstream-reset')
  assert.match(String(error), /ECONNRESET/)
})

test('a side that was lost before the splice began resets the other', async () => {
  const [client, downstream] = createMemoryStreamPair()
  const [upstream, server] = createMemoryStreamPair()
  const ended = endOf(client)
  server.destroy()
  await endOf(upstream)
  assert.equal((await splice(downstream, upstream, never)).ended, 'upstream-reset')
  assert.equal(await ended, 'ECONNRESET')
})

test('the signal resets both sides', async () => {
  const controller = new AbortController()
  const { client, server, result } = spliced(controller.signal)
  controller.abort(new Error('stopping'))
  assert.deepEqual(await Promise.all([endOf(client), endOf(server)]), ['ECONNRESET', 'ECONNRESET'])
  const { ended, error } = await result
  assert.equal(ended, 'aborted')
  assert.match(String(error), /stopping/)
})

test('a signal that is already aborted resets both sides', async () => {
  const { client, server, result } = spliced(AbortSignal.abort(new Error('too late')))
  assert.deepEqual(await Promise.all([endOf(client), endOf(server)]), ['ECONNRESET', 'ECONNRESET'])
  assert.equal((await result).ended, 'aborted')
})

test('a reader that does not read stops the writer and memory stays bounded', async () => {
  const { client, server, downstream, upstream, result } = spliced(never, 1024)
  // Writes until nothing moves any more for a hundred turns of the event loop.
  for (let stuck = 0; stuck < 100; stuck++) {
    if (!client.writableNeedDrain) {
      client.write(Buffer.alloc(512))
      stuck = 0
    }
    await new Promise(setImmediate)
  }
  assert.ok(downstream.readableLength + upstream.writableLength <= 4096)
  client.end()
  const received = await buffer(server)
  server.end()
  client.resume()
  assert.ok(received.length > 1024)
  assert.equal((await result).bytesToUpstream, received.length)
})

test('a server that answers, ends and then resets has its whole answer delivered before the reset', async () => {
  const steps: string[] = []
  const confirmed = Promise.withResolvers<void>()
  // A client so slow that the server is long gone when the answer's bytes are taken.
  const downstream: ByteStream = new Duplex({
    read() {},
    write(chunk, _encoding, done) {
      steps.push(String(chunk))
      void confirmed.promise.then(() => done())
    },
    final(done) {
      steps.push('end')
      done()
    },
  })
  const [upstream, server] = createMemoryStreamPair()
  const result = splice(downstream, upstream, never)
  server.end('413 too large')
  await once(server, 'finish')
  server.destroy()
  await endOf(upstream)
  assert.equal(downstream.destroyed, false)
  confirmed.resolve()
  assert.equal(await endOf(downstream), 'ECONNRESET')
  assert.deepEqual(steps, ['413 too large', 'end'])
  assert.equal((await result).ended, 'upstream-reset')
})

test('over TCP, 64 MB reach a slow reader unchanged', async () => {
  await using resources = new AsyncDisposableStack()
  const { client, server, result } = await tcpSpliced(resources)
  const block = Buffer.alloc(1 << 20)
  for (let i = 0; i < block.length; i++) block[i] = (i * 31 + (i >> 8)) & 255
  const sent = createHash('sha256')
  const received = createHash('sha256')
  const send = async () => {
    for (let count = 0; count < 64; count++) {
      const copy = Buffer.from(block)
      copy.writeUInt32LE(count)
      sent.update(copy)
      if (!client.write(copy)) await once(client, 'drain')
    }
    client.end()
  }
  const receive = async () => {
    let chunks = 0
    for await (const chunk of server) {
      received.update(chunk)
      // Now and then the reader is slower than the sender, so that every buffer on the way fills up.
      if (chunks++ % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
    }
    server.end()
  }
  client.resume()
  await Promise.all([send(), receive()])
  assert.equal(received.digest('hex'), sent.digest('hex'))
  assert.deepEqual(await result, { ended: 'finished', bytesToUpstream: 64 << 20, bytesToDownstream: 0 })
})

test('over TCP, a reset of either side reaches the other as a reset', async () => {
  await using resources = new AsyncDisposableStack()
  for (const resetting of ['client', 'server'] as const) {
    const ends = await tcpSpliced(resources)
    const other = resetting === 'client' ? ends.server : ends.client
    other.resume()
    const failed = once(other, 'error')
    resetStream(ends[resetting], new Error('on purpose'))
    assert.equal((await failed)[0].code, 'ECONNRESET')
    assert.equal((await ends.result).ended, resetting === 'client' ? 'downstream-reset' : 'upstream-reset')
  }
})

test('over TCP, a client that closed while the server still sends ends the splice without an unhandled error', async () => {
  await using resources = new AsyncDisposableStack()
  const { client, server, result } = await tcpSpliced(resources)
  server.resume()
  client.destroy()
  await once(server, 'end')
  const ended = endOf(server)
  const write = (error?: Error | null) => {
    if (error == null) server.write(Buffer.alloc(65_536), write)
  }
  write()
  assert.match((await ended) ?? '', /ECONNRESET|EPIPE/)
  assert.equal((await result).ended, 'downstream-reset')
})
