import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isEqualData } from './equal.ts'

test('data is equal by content, whatever the order of keys', () => {
  assert.ok(isEqualData({ a: [1, { b: 'x' }], c: undefined }, { c: undefined, a: [1, { b: 'x' }] }))
  const unequal: [unknown, unknown][] = [
    [{ a: 1 }, { a: 2 }],
    [{ a: 1 }, { b: 1 }],
    [{ a: 1 }, { a: 1, b: 2 }],
    [[1, 2], [1]],
    [
      [1, 2],
      [2, 1],
    ],
    [[], {}],
    [null, {}],
    [undefined, null],
    ['1', 1],
  ]
  for (const [left, right] of unequal) {
    assert.ok(!isEqualData(left, right), JSON.stringify([left, right]))
    assert.ok(!isEqualData(right, left), JSON.stringify([right, left]))
  }
})
