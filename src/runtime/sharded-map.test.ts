import assert from 'node:assert/strict'
import { test } from 'node:test'
import { differencesOf, type MapDifference, ShardedMap } from './sharded-map.ts'

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

const sorted = <V>(differences: Iterable<MapDifference<V>>) =>
  [...differences].sort((left, right) => (left.key < right.key ? -1 : 1))

test('two maps differ in what was added, removed and replaced, sharded or not', () => {
  const keys = Array.from({ length: 3000 }, (_, index) => `key ${index}`)
  const first = ShardedMap.empty<string>().updated(keys, (key) => key)
  const values = new Map([
    ['key 7', 'other'],
    ['new', 'value'],
  ])
  const second = first.updated(['key 5', 'key 7', 'key 8', 'new'], (key, value) =>
    key === 'key 5' ? undefined : (values.get(key) ?? value),
  )
  const expected = [
    { key: 'key 5', before: 'key 5', after: undefined },
    { key: 'key 7', before: 'key 7', after: 'other' },
    { key: 'new', before: undefined, after: 'value' },
  ]
  assert.deepEqual(sorted(differencesOf(first, second)), expected)
  assert.deepEqual(sorted(differencesOf(new Map(first), new Map(second))), expected)
  assert.deepEqual(sorted(differencesOf(first, new Map(second))), expected)
  assert.deepEqual([...differencesOf(first, first)], [])
})

test('a sharded map tells its size and all its entries', () => {
  const keys = Array.from({ length: 1000 }, (_, index) => `key ${index}`)
  const map = ShardedMap.empty<string>()
    .updated(keys, (key) => key)
    .updated(['key 1', 'none'], () => undefined)
  assert.equal(map.size, 999)
  assert.equal(new Map(map).size, 999)
  assert.equal(new Set(map.values()).size, 999)
  assert.ok(map.has('key 2'))
  assert.ok(!map.has('key 1'))
})
