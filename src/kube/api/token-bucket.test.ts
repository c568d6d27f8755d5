import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TokenBucket } from './token-bucket.ts'

function createBucket(qps: number, burst: number) {
  const clock = { now: 5_000 }
  return { clock, bucket: new TokenBucket({ qps, burst }, () => clock.now) }
}

test('a burst goes at once, what follows at the rate', () => {
  const { bucket } = createBucket(10, 3)
  assert.deepEqual(
    [1, 2, 3, 4, 5].map(() => bucket.reserve()),
    [0, 0, 0, 100, 200],
  )
})

test('quiet time fills the bucket, but never beyond the burst', () => {
  const { bucket, clock } = createBucket(10, 2)
  assert.deepEqual([bucket.reserve(), bucket.reserve(), bucket.reserve()], [0, 0, 100])
  clock.now += 150
  assert.equal(bucket.reserve(), 50)
  clock.now += 3_600_000
  assert.deepEqual([bucket.reserve(), bucket.reserve(), bucket.reserve()], [0, 0, 100])
})

test('waiting ends with the signal', async () => {
  const { bucket } = createBucket(0.001, 1)
  const controller = new AbortController()
  await bucket.take(controller.signal)
  const waiting = bucket.take(controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(waiting, /enough/)
  await assert.rejects(bucket.take(controller.signal), /enough/)
})
