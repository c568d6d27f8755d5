import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { test } from 'node:test'
import { readInto } from './bulk-read.ts'
import { createDirectDialer } from './direct-dialer.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'
import { Turns, turnBytes } from './turns.ts'

/** A stream that counts how often it was told to go on. */
class Counted {
  destroyed = false
  isHeld = false
  resumed = 0

  isPaused(): boolean {
    return this.isHeld
  }

  resume(): void {
    this.resumed += 1
  }
}

const nextTurn = () => new Promise(setImmediate)

test('a socket that brings little reads on at once', async () => {
  const stream = new Counted()
  const turns = new Turns(stream)
  assert.equal(turns.after(1000, true), true)
  assert.equal(turns.after(turnBytes - 1001, true), true)
  await nextTurn()
  assert.equal(stream.resumed, 0)
})

test('a socket that has brought much stops, and goes on once in the next turn with as much again', async () => {
  const stream = new Counted()
  const turns = new Turns(stream)
  assert.equal(turns.after(turnBytes, true), false)
  // TLS tells what it has decrypted already.
  assert.equal(turns.after(16_384, true), false)
  assert.equal(stream.resumed, 0)
  await nextTurn()
  assert.equal(stream.resumed, 1)
  assert.equal(turns.after(turnBytes - 1, true), true)
  assert.equal(turns.after(1, true), false)
  await nextTurn()
  assert.equal(stream.resumed, 2)
})

test('whoever else has had its turn meanwhile was read in between', async () => {
  const order: string[] = []
  const stream = new Counted()
  stream.resume = () => void order.push('the large one')
  const turns = new Turns(stream)
  setImmediate(() => order.push('another one'))
  turns.after(2 * turnBytes, true)
  assert.deepEqual(order, [])
  await nextTurn()
  assert.deepEqual(order, ['another one', 'the large one'])
})

test('a reader that says stop is not told to go on', async () => {
  const stream = new Counted()
  const turns = new Turns(stream)
  assert.equal(turns.after(turnBytes, false), false)
  await nextTurn()
  assert.equal(turns.after(turnBytes, true), false)
  assert.equal(turns.after(16_384, false), false)
  await nextTurn()
  assert.equal(stream.resumed, 0)
  assert.equal(turns.after(turnBytes - 1, true), true, 'the reader has gone on by itself, with a turn of its own')
})

test('a stream that was paused or destroyed at the end of its turn is left so', async () => {
  for (const change of [{ isHeld: true }, { destroyed: true }]) {
    const stream = new Counted()
    const turns = new Turns(stream)
    turns.after(turnBytes, true)
    Object.assign(stream, change)
    await nextTurn()
    assert.equal(stream.resumed, 0)
  }
})

test('a real socket loses nothing between its turns', async () => {
  await using resources = new AsyncDisposableStack()
  const accepted = Promise.withResolvers<TcpSocket>()
  const listener = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve }))
  const target = { protocol: 'tcp', address: '127.0.0.1', port: listener.port } as const
  const client = await createDirectDialer().dial(target, new AbortController().signal)
  resources.defer(() => void client.destroy())
  const server = await accepted.promise
  const sent = randomBytes(20 * turnBytes + 7)
  const received = Buffer.alloc(sent.length)
  let at = 0
  const buffer = Buffer.alloc(65_536)
  const onRead = (bytes: number) => {
    buffer.copy(received, at, 0, bytes)
    at += bytes
    return true
  }
  assert.ok(readInto(server, { buffer, onRead }))
  server.resume()
  const ended = once(server, 'end')
  client.end(sent)
  await ended
  assert.equal(at, sent.length)
  assert.ok(received.equals(sent))
})
