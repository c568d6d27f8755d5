import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HashRing } from '../model/index.ts'
import { createKeyRing, fillMaglevTable, type KeyRing, usualRing } from './key-ring.ts'

const rings: readonly HashRing[] = [
  { kind: 'ring' },
  { kind: 'ring', minimumSize: 1_024 },
  { kind: 'ring', minimumSize: 1 },
  { kind: 'maglev' },
  { kind: 'maglev', tableSize: 1_009 },
]
const nameOf = (ring: HashRing) => JSON.stringify(ring)
const keys = Array.from({ length: 2_000 }, (_, index) => `10.${index % 251}.${index >> 3}.${index & 255}`)

/** Backends of ten pods; each `site` is another draw. */
function membersOf(site: number, count = 10): string[] {
  return Array.from({ length: count }, (_, index) => `edge-${site}/10.244.${index}.${site}:8080`)
}

function ownerOf(ring: KeyRing, key: string): number {
  for (const member of ring.walk(key)) return member
  return -1
}

for (const shape of rings) {
  test(`removing one of ten members moves at most 15 % of the keys, and all of its own: ${nameOf(shape)}`, () => {
    for (const site of [1, 2]) {
      const members = membersOf(site)
      const before = createKeyRing(members, shape, usualRing)
      for (const gone of members.keys()) {
        const left = members.filter((_, index) => index !== gone)
        const after = createKeyRing(left, shape, usualRing)
        const moved = keys.filter((key) => members[ownerOf(before, key)] !== left[ownerOf(after, key)])
        assert.ok(moved.length <= keys.length * 0.15, `${moved.length} of ${keys.length} without ${members[gone]}`)
      }
    }
  })

  test(`a key's walk visits every member: ${nameOf(shape)}`, () => {
    const ring = createKeyRing(membersOf(1), shape, usualRing)
    for (const key of keys.slice(0, 50)) assert.equal(new Set(ring.walk(key)).size, 10)
  })

  test(`keys stay where they are when nothing changes: ${nameOf(shape)}`, () => {
    const [one, other] = [1, 2].map(() => createKeyRing(membersOf(3), shape, usualRing))
    for (const key of keys.slice(0, 200)) assert.equal(ownerOf(one as KeyRing, key), ownerOf(other as KeyRing, key))
  })

  test(`one member has all keys, none has none: ${nameOf(shape)}`, () => {
    const alone = createKeyRing(['only'], shape, usualRing)
    assert.deepEqual(new Set(keys.map((key) => ownerOf(alone, key))), new Set([0]))
    assert.deepEqual([...createKeyRing([], shape, usualRing).walk('key')], [])
  })
}

test('no member of the partitioned ring has more than its share of partitions', () => {
  for (const [count, load] of [
    [3, 1.25],
    [7, 1],
    [10, 1.25],
    [150, 1.1],
  ] as const) {
    const shape = { partitionCount: 100, replicationFactor: 10, load }
    const ring = createKeyRing(membersOf(1, count), { kind: 'ring' }, shape)
    const shares = new Map<number, Set<string>>()
    // Far more keys than partitions, so that every partition is met.
    for (let index = 0; index < 20_000; index++) {
      const [owner = -1, second = -1, third = -1] = ring.walk(`key ${index}`)
      const partition = `${owner} ${second} ${third}`
      shares.set(owner, (shares.get(owner) ?? new Set()).add(partition))
    }
    const limit = Math.ceil((1_000 / count) * load)
    for (const partitions of shares.values()) assert.ok(partitions.size <= limit, `${partitions.size} > ${limit}`)
  }
})

test('more members than partitions still have a member for every key', () => {
  const ring = createKeyRing(membersOf(1, 40), { kind: 'ring' }, { partitionCount: 1, replicationFactor: 1, load: 1 })
  assert.equal(new Set(keys.map((key) => ownerOf(ring, key))).size, 1)
})

test('entries of a Maglev table are shared equally', () => {
  const table = fillMaglevTable(membersOf(1, 7), 1_009)
  const counts = new Array<number>(7).fill(0)
  for (const owner of table) counts[owner] = (counts[owner] ?? 0) + 1
  for (const count of counts) assert.ok(count === 144 || count === 145, String(counts))
})

test('a Maglev table gets a size that its members can fill, whatever size is asked for', () => {
  const members = membersOf(1)
  for (const tableSize of [1, 4, 9, 100, 65_536]) {
    const ring = createKeyRing(members, { kind: 'maglev', tableSize }, usualRing)
    assert.equal(new Set(ring.walk('10.0.0.1')).size, members.length, `tableSize ${tableSize}`)
  }
})
