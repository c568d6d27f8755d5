import assert from 'node:assert/strict'
import { test } from 'node:test'
import { trimmed } from './trimmed.ts'

test('a trimmed list holds the same, and is a list of its own', () => {
  const list = [{ at: 1 }, { at: 2 }, { at: 3 }].filter(({ at }) => at > 1)
  const own = trimmed(list)
  assert.deepEqual(own, [{ at: 2 }, { at: 3 }])
  assert.equal(own[0], list[0])
  list.push({ at: 4 })
  assert.equal(own.length, 2)
})
