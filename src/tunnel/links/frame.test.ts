import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  batchBuffers,
  decodeOffsets,
  encodeOffset,
  FrameBatch,
  FrameReader,
  frameType,
  headBytes,
  maxPayloadBytes,
} from './frame.ts'

function createRecorder() {
  const frames: string[] = []
  const data = new Map<number, string>()
  const reader = new FrameReader({
    onFrame: (type, flow, payload) => void frames.push(`${type} ${flow} ${payload.toString()}`),
    onData: (flow, bytes) => void data.set(flow, (data.get(flow) ?? '') + bytes.toString()),
  })
  return { frames, data, reader }
}

function encode(...frames: readonly (readonly [number, number, string])[]): Buffer {
  const batch = new FrameBatch()
  for (const [type, flow, payload] of frames) batch.add(type, flow, Buffer.from(payload))
  return Buffer.concat(batch.take())
}

const sample = encode(
  [frameType.open, 1, 'open me'],
  [frameType.data, 1, 'x'.repeat(10_000)],
  [frameType.fin, 1, ''],
  [frameType.ping, 0, '12345678'],
  [frameType.data, 0xffff_ffff, 'far'],
  [200, 7, 'from the future'],
)

for (const size of [1, 3, 7, 8, 9, 4096, sample.length]) {
  test(`frames survive being cut into pieces of ${size} bytes`, () => {
    const { frames, data, reader } = createRecorder()
    for (let at = 0; at < sample.length; at += size) reader.feed(sample.subarray(at, at + size))
    assert.deepEqual(frames, ['2 1 open me', '6 1 ', '9 0 12345678', '200 7 from the future'])
    assert.equal(data.get(1), 'x'.repeat(10_000))
    assert.equal(data.get(0xffff_ffff), 'far')
  })
}

test('a head has the flow, the type and the length in network order', () => {
  assert.equal(encode([frameType.data, 0x01020304, 'abc']).toString('hex'), `0102030405000003${'616263'}`)
})

test('a payload beyond the limit is refused before it is read', () => {
  const head = Buffer.from('0000000102010001', 'hex')
  assert.throws(() => createRecorder().reader.feed(head), { name: 'LinkProtocolError', message: /65537 bytes/ })
})

test('small frames and two large ones travel as one buffer each, and the writer may have its own back', () => {
  const batch = new FrameBatch()
  for (let flow = 1; flow < 100; flow++) batch.add(frameType.data, flow, Buffer.from('small'))
  assert.equal(batch.bytes, 99 * (headBytes + 5))
  assert.equal(batch.take().length, 1)
  assert.equal(batch.bytes, 0)
  const large = Buffer.alloc(maxPayloadBytes, 'a')
  for (let count = 0; count < 2; count++) batch.add(frameType.data, 1, large)
  batch.add(frameType.fin, 1, undefined)
  large.fill('b')
  const parts = batch.take()
  assert.equal(parts.length, 1)
  const { reader, data, frames } = createRecorder()
  for (const part of parts) reader.feed(part)
  assert.equal(data.get(1), 'a'.repeat(2 * maxPayloadBytes))
  assert.deepEqual(frames, ['6 1 '])
})

test('a batch that is too long for a buffer goes on in the next one, also in the middle of a payload', () => {
  const batch = new FrameBatch()
  const payloads = Array.from({ length: 7 }, (_, index) => String(index).repeat(60_000 + index))
  for (const payload of payloads) batch.add(frameType.data, 1, Buffer.from(payload))
  const parts = batch.take()
  assert.ok(parts.length > 1)
  const { reader, data } = createRecorder()
  for (const part of parts) reader.feed(part)
  assert.equal(data.get(1), payloads.join(''))
})

test('a large buffer is not kept waiting for few bytes', () => {
  const batch = new FrameBatch()
  const [small, large] = [Buffer.alloc(100, 'a'), Buffer.alloc(maxPayloadBytes, 'b')]
  batch.add(frameType.data, 1, small)
  const [compact = large] = batch.takeCompact()
  assert.deepEqual(compact.subarray(headBytes), small)
  assert.notEqual(compact.buffer.byteLength, batchBuffers.bufferBytes)
  const next = batchBuffers.take()
  batchBuffers.give(next)
  batch.add(frameType.data, 1, large)
  const [whole = small, ...none] = batch.takeCompact()
  assert.equal(whole.buffer, next.buffer)
  assert.deepEqual([whole.length, none.length], [headBytes + maxPayloadBytes, 0])
})

test('a frame is the own of who gets it, while the bytes that came are used again', () => {
  const payloads: Buffer[] = []
  const reader = new FrameReader({ onFrame: (_type, _flow, payload) => void payloads.push(payload), onData() {} })
  const bytes = encode([frameType.open, 1, 'first'], [frameType.open, 3, 'second'])
  for (const half of [bytes.subarray(0, 18), bytes.subarray(18)]) {
    const lent = Buffer.copyBytesFrom(half)
    reader.feed(lent)
    lent.fill('x')
  }
  assert.deepEqual(payloads.map(String), ['first', 'second'])
})

test('a stopped reader tells nothing more, also of the bytes in hand', () => {
  const seen: number[] = []
  const reader = new FrameReader({
    onFrame: (type) => {
      seen.push(type)
      reader.stop()
    },
    onData: () => assert.fail('stopped'),
  })
  reader.feed(sample)
  reader.feed(sample)
  assert.deepEqual(seen, [frameType.open])
})

test('offsets go far beyond 32 bits, and a damaged one is refused', () => {
  assert.deepEqual(decodeOffsets(encodeOffset(2 ** 45 + 3)), [2 ** 45 + 3, undefined])
  assert.deepEqual(decodeOffsets(encodeOffset(7, 2 ** 45)), [7, 2 ** 45])
  assert.throws(() => decodeOffsets(Buffer.alloc(7)), { name: 'LinkProtocolError' })
  assert.throws(() => decodeOffsets(Buffer.alloc(8, 0xff)), { name: 'LinkProtocolError' })
  assert.throws(() => decodeOffsets(Buffer.alloc(16, 0xff)), { name: 'LinkProtocolError' })
})
