import assert from 'node:assert/strict'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { createMemoryStreamPair } from './memory-stream.ts'

test('each side can end its direction while the other one goes on', async () => {
  const [left, right] = createMemoryStreamPair()
  left.end('question')
  assert.equal(await text(right), 'question')
  right.end('answer')
  assert.equal(await text(left), 'answer')
})

test('a writer waits for a reader that does not read', async () => {
  const [left, right] = createMemoryStreamPair({ highWaterMark: 4 })
  assert.equal(left.write('12345678'), false)
  await new Promise(setImmediate)
  assert.equal(left.writableLength, 8)
  right.resume()
  await once(left, 'drain')
  assert.equal(left.writableLength, 0)
})

test('destroying one side before the end resets the other', async () => {
  const [left, right] = createMemoryStreamPair()
  left.destroy()
  const [error] = await once(right, 'error')
  assert.equal(error.code, 'ECONNRESET')
})

test('a pair that ended in order resets nobody', async () => {
  const [left, right] = createMemoryStreamPair()
  const closed = Promise.all([once(left, 'close'), once(right, 'close')])
  left.end()
  right.end()
  left.resume()
  right.resume()
  await closed
  assert.deepEqual([left.errored, right.errored], [null, null])
})
