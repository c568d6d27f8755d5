import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair } from '../net/index.ts'
import { answerOnce, askOnce, encodeFrame, FrameError, readFrame, writeFrame } from './frames.ts'

const never = new AbortController().signal

test('a frame is read and the bytes that follow in the same piece stay in the stream', async () => {
  const [near, far] = createMemoryStreamPair()
  near.write(Buffer.concat([encodeFrame({ hello: 'wörld' }), Buffer.from('raw bytes')]))
  near.end()
  assert.deepEqual(await readFrame(far, 1000, never), { hello: 'wörld' })
  const rest: Buffer[] = []
  for await (const chunk of far) rest.push(chunk)
  assert.equal(Buffer.concat(rest).toString(), 'raw bytes')
})

test('a frame that arrives byte by byte is put together', async () => {
  const [near, far] = createMemoryStreamPair()
  for (const byte of encodeFrame([1, 2, 3])) near.write(Buffer.from([byte]))
  assert.deepEqual(await readFrame(far, 1000, never), [1, 2, 3])
})

test('frames are read one after the other, until the orderly end', async () => {
  const [near, far] = createMemoryStreamPair()
  for (const message of ['a', 'b']) await writeFrame(near, message, never)
  near.end()
  assert.equal(await readFrame(far, 1000, never), 'a')
  assert.equal(await readFrame(far, 1000, never), 'b')
  assert.equal(await readFrame(far, 1000, never), undefined)
})

test('a frame above the limit is refused before its body is read', async () => {
  const [near, far] = createMemoryStreamPair()
  near.write(Buffer.from([0x7f, 0xff, 0xff, 0xff]))
  await assert.rejects(readFrame(far, 1000, never), FrameError)
})

test('an end inside a frame, and a frame that is not JSON, are errors', async () => {
  const [near, far] = createMemoryStreamPair()
  near.end(encodeFrame('cut').subarray(0, 6))
  await assert.rejects(readFrame(far, 1000, never), FrameError)
  const [otherNear, otherFar] = createMemoryStreamPair()
  otherNear.write(Buffer.from([0, 0, 0, 2, 0x7b, 0x7b]))
  await assert.rejects(readFrame(otherFar, 1000, never), FrameError)
})

test('a question gets one answer on its stream, which is ended then, and reset when there is none', async () => {
  const [near, far] = createMemoryStreamPair()
  const asking = askOnce(near, 'who?', 1000, never)
  assert.equal(await readFrame(far, 1000, never), 'who?')
  await writeFrame(far, 'me', never)
  assert.equal(await asking, 'me')
  assert.equal(await readFrame(far, 1000, never), undefined)
  const [silentNear, silentFar] = createMemoryStreamPair()
  silentFar.on('error', () => {})
  const limit = new AbortController()
  const waiting = askOnce(silentNear, 'who?', 1000, limit.signal)
  limit.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  assert.ok(silentNear.destroyed)
})

test('a question is answered on its stream, which is ended then, and reset when it cannot be', async () => {
  const [near, far] = createMemoryStreamPair()
  const answering = answerOnce(far, async (question) => [question, 'me'], 1000, never)
  assert.deepEqual(await askOnce(near, 'who?', 1000, never), ['who?', 'me'])
  await answering
  assert.ok(far.writableEnded)
  const [asker, refuser] = createMemoryStreamPair()
  const refusing = answerOnce(refuser, () => Promise.reject(new Error('no such question')), 1000, never)
  const asked = assert.rejects(askOnce(asker, 'what?', 1000, never), { code: 'ECONNRESET' })
  await assert.rejects(refusing, /no such question/)
  await asked
})

test('a reset while a frame is awaited is told as such', async () => {
  const [near, far] = createMemoryStreamPair()
  const reading = readFrame(far, 1000, never)
  near.on('error', () => {})
  near.destroy(new Error('gone'))
  await assert.rejects(reading, { code: 'ECONNRESET' })
})

test('waiting for a frame ends with the signal', async () => {
  const [, far] = createMemoryStreamPair()
  const controller = new AbortController()
  const reading = readFrame(far, 1000, controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(reading, { message: 'enough' })
})
