import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isEqualData } from './equal.ts'
import { ShardedMap } from './sharded-map.ts'

test('a changed copy of a sharded map leaves the original alone', () => {
  const keys = Array.from({ length: 3000 }, (_, index) => `key ${index}`)
  const first = ShardedMap.empty<string>().updated(keys, (key) => key.toUpperCase())
  const second = first.updated(['key 1', 'key 2', 'new'], (key, value) => (key === 'key 1' ? undefined : `${value}!`))
  for (const key of keys) assert.equal(first.get(key), key.toUpperCase())
  assert.equal(first.get('new'), undefined)
  assert.deepEqual(
    ['key 1', 'key 2', 'key 3', 'new'].map((key) => second.get(key)),
    [undefined, 'KEY 2!', 'KEY 3', 'undefined!'],
  )
})

test('a sharded map sees its own earlier edits when a key comes twice', () => {
  const counted = ShardedMap.empty<number>().updated(['a', 'a', 'a'], (_key, value = 0) => value + 1)
  assert.equal(counted.get('a'), 3)
})

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
