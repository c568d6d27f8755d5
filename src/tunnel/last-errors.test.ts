import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LastErrors } from './last-errors.ts'

test('the last error of a peer counts, until it works', () => {
  const errors = new LastErrors()
  errors.note('edge-b', 'refused')
  errors.note('edge-b', 'no answer')
  assert.deepEqual([errors.of('edge-b'), errors.of('edge-c')], ['no answer', undefined])
  errors.forget('edge-b')
  assert.equal(errors.of('edge-b'), undefined)
})

test('with many peers those that failed longest ago are forgotten', () => {
  const errors = new LastErrors()
  for (let peer = 0; peer < 1000; peer++) errors.note(String(peer), 'refused')
  errors.note('0', 'refused again')
  errors.note('one more', 'refused')
  assert.deepEqual([errors.of('0'), errors.of('1'), errors.of('2')], ['refused again', undefined, 'refused'])
})
