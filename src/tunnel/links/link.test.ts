import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import type { TLSSocket } from 'node:tls'
import { encodeOffset, type FrameBatch, FrameReader, frameType } from './frame.ts'
import type { AgreedLink } from './handshake.ts'
import { Link, type Sender } from './link.ts'

/** A socket that takes what is written to it, and is full when the test says so. */
class FakeSocket extends EventEmitter {
  readonly writableHighWaterMark = 256 * 1024
  readonly errored = null
  writableLength = 0
  writableNeedDrain = false
  isDestroyed = false
  hasEnded = false
  /** Type and flow of each frame that was written, and the first byte of its payload. */
  readonly frames: [number, number, number | undefined][] = []
  /** The memory below what was written. */
  readonly memory = new Set<ArrayBufferLike>()
  readonly #reader = new FrameReader({
    onFrame: (type, flow, payload) => void this.frames.push([type, flow, payload[0]]),
    onData: (flow, bytes) => void this.frames.push([frameType.data, flow, bytes[0]]),
  })

  resume(): void {}
  cork(): void {}
  uncork(): void {}
  end(): void {
    this.hasEnded = true
  }
  destroy(): void {
    this.isDestroyed = true
  }
  write(bytes: Buffer): void {
    this.memory.add(bytes.buffer)
    this.#reader.feed(bytes)
  }
}

function createLink() {
  const socket = new FakeSocket()
  const closed: string[] = []
  const link = new Link(
    socket as unknown as TLSSocket,
    { kind: 'shared', agreed: { hello: { capabilities: ['move'] } } as unknown as AgreedLink, path: 'direct' },
    { onFrame() {}, onData() {}, onClosed: (_, error) => void closed.push(error.message) },
  )
  return { socket, link, closed }
}

/** Sends one frame of payload for each turn that it gets, by default as long as it may be. */
function createSender(flow: number, turns: number, bytes?: number): Sender {
  let left = turns
  return {
    fill(batch: FrameBatch, quantumBytes: number) {
      batch.add(frameType.data, flow, Buffer.alloc(bytes ?? quantumBytes, flow))
      left -= 1
      return left > 0
    },
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

test('while the line is full old datagrams make room for new ones, and then go before the bytes of flows', async () => {
  const { socket, link } = createLink()
  socket.writableNeedDrain = true
  link.ready(createSender(5, 1))
  // Four times what may wait.
  for (let number = 0; number < 16; number++) link.datagram(7, Buffer.alloc(64 * 1024, number))
  await turn()
  assert.equal(socket.frames.length, 0)
  socket.writableNeedDrain = false
  socket.emit('drain')
  await turn()
  const datagrams = socket.frames.filter(([type]) => type === frameType.datagram).map(([, , number]) => number)
  assert.deepEqual(datagrams, [12, 13, 14, 15])
  assert.equal(socket.frames.at(-1)?.[0], frameType.data)
})

test('control frames go first, also when the line is full, and senders take turns', async () => {
  const { socket, link } = createLink()
  link.ready(createSender(1, 2))
  link.ready(createSender(3, 2))
  link.control(frameType.ok, 9)
  await turn()
  await turn()
  const flows = socket.frames.map(([, flow]) => flow).filter((flow, at, all) => flow !== all[at - 1])
  assert.deepEqual(flows, [9, 1, 3, 1, 3])
  socket.writableNeedDrain = true
  socket.writableLength = socket.writableHighWaterMark
  link.ready(createSender(5, 1))
  link.control(frameType.reset, 11)
  await turn()
  assert.deepEqual(socket.frames.at(-1)?.slice(0, 2), [frameType.reset, 11])
})

test('small frames that wait for a line that has stopped hold little memory', async () => {
  const { socket, link } = createLink()
  socket.writableLength = 1
  for (let number = 0; number < 500; number++) {
    link.ready(createSender(1, 1, 7))
    await turn()
  }
  assert.equal(socket.frames.length, 500)
  const held = [...socket.memory].reduce((sum, { byteLength }) => sum + byteLength, 0)
  assert.ok(held < 1_000_000, `${held} bytes`)
})

test('only an answer that repeats the question ends it; other signs of life are not taken for it', async () => {
  const { socket, link } = createLink()
  link.reassure()
  await turn()
  assert.deepEqual(socket.frames, [[frameType.pong, 0, 0]])
  const before = link.roundTripMs
  const ping = link.ping()
  const asked = link.probedSinceMs
  assert.ok(asked !== undefined)
  link.onFrame(frameType.pong, 0, encodeOffset(0))
  assert.deepEqual([link.probedSinceMs, link.roundTripMs], [asked, before])
  link.onFrame(frameType.pong, 0, encodeOffset(Math.trunc(asked)))
  assert.equal(link.probedSinceMs, undefined)
  assert.equal(await ping, link.roundTripMs)
})

test('bytes of flows are noted, other frames are not', () => {
  const { link } = createLink()
  link.onFrame(frameType.credit, 1, encodeOffset(5))
  assert.equal(link.lastDataMs, 0)
  link.onData(1, Buffer.alloc(10))
  assert.equal(link.lastDataMs, link.lastHeardMs)
})

test('a link that is left says that its flows are over, and ends in order', () => {
  const { socket, link, closed } = createLink()
  link.leave(new Error('the node stops'))
  assert.deepEqual(socket.frames, [[frameType.reset, 0, 't'.charCodeAt(0)]])
  assert.deepEqual([socket.hasEnded, socket.isDestroyed, link.isOpen], [true, false, false])
  link.close(new Error('twice'))
  link.leave(new Error('twice'))
  assert.deepEqual(closed, ['the node stops'])
})

test('a link that is closed takes nothing more, and tells those who measure it', async () => {
  const { socket, link, closed } = createLink()
  const ping = link.ping()
  link.close(new Error('lost'))
  link.datagram(1, Buffer.alloc(10))
  link.control(frameType.ok, 1)
  link.ready(createSender(1, 1))
  await turn()
  assert.equal(await ping, undefined)
  assert.deepEqual([socket.frames, closed, socket.isDestroyed], [[], ['lost'], true])
})
