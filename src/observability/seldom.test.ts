import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Seldom } from './seldom.ts'

test('each key is due once, and again after the time', () => {
  let nowMs = 0
  const seldom = new Seldom(1000, () => nowMs)
  assert.deepEqual([seldom.isDue('a'), seldom.isDue('a'), seldom.isDue('b')], [true, false, true])
  nowMs = 999
  assert.equal(seldom.isDue('a'), false)
  nowMs = 1000
  assert.deepEqual([seldom.isDue('a'), seldom.isDue('a')], [true, false])
})

test('any number of keys may come; those before are due again then', () => {
  const seldom = new Seldom(1000, () => 0)
  for (let key = 0; key < 1000; key++) assert.ok(seldom.isDue(String(key)))
  assert.equal(seldom.isDue('0'), false)
  assert.ok(seldom.isDue('one more'))
  assert.ok(seldom.isDue('0'))
})
