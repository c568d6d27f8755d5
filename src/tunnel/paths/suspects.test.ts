import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Suspects } from './suspects.ts'

test('a way that was tried in vain is passed over for a while, others are not', () => {
  let nowMs = 0
  const suspects = new Suspects(() => nowMs)
  const [way, other] = [{}, {}]
  suspects.add(way)
  nowMs = 10_000
  assert.deepEqual([suspects.has(way), suspects.has(other)], [true, false])
  nowMs = 10_001
  assert.equal(suspects.has(way), false)
})
