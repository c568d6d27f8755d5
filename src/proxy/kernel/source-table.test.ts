import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Slot } from './ruled-service-port.ts'
import { boundedSourceTableOf, sourceTableOf, sourceTableSize } from './source-table.ts'

const slots = Array.from({ length: 10 }, (_, host) => ({ address: `10.244.1.${host + 2}`, port: 8080 }))
const nameOf = ({ address, port }: Slot) => `${address}:${port}`

test('when one of ten slots goes, only its own clients move, and they are at most 15 of 100', () => {
  const before = sourceTableOf(slots)
  for (const gone of slots) {
    const after = sourceTableOf(slots.filter((slot) => slot !== gone))
    const moved = before.filter((slot, part) => nameOf(slot) !== nameOf(after[part] ?? slot))
    assert.ok(moved.every((slot) => slot === gone))
    assert.ok(moved.length > 0 && moved.length <= sourceTableSize * 0.15, `${nameOf(gone)}: ${moved.length}`)
  }
})

test('a slot that comes takes clients for itself alone', () => {
  const before = sourceTableOf(slots.slice(1))
  const after = sourceTableOf(slots)
  const moved = after.filter((slot, part) => nameOf(slot) !== nameOf(before[part] ?? slot))
  assert.ok(moved.length > 0 && moved.every((slot) => slot === slots[0]))
})

test('the order of slots does not matter, so that every node and every restart gives the same answer', () => {
  assert.deepEqual(sourceTableOf(slots.toReversed()), sourceTableOf(slots))
})

test('all of many slots are used', () => {
  const many = Array.from({ length: 40 }, (_, host) => ({ address: `10.244.2.${host + 2}`, port: 8080 }))
  assert.equal(new Set(sourceTableOf(many).map(nameOf)).size, 40)
})

test('of few parts every slot has its share, and most clients stay when one goes', () => {
  for (let count = 2; count <= 8; count++) {
    const some = slots.slice(0, count)
    const before = boundedSourceTableOf(some, 32)
    const shares = some.map((slot) => before.filter((one) => one === slot).length)
    assert.ok(
      shares.every((share) => share > 0 && share <= Math.ceil(32 / count)),
      shares.join(),
    )
    assert.deepEqual(boundedSourceTableOf(some.toReversed(), 32), before)
    const after = boundedSourceTableOf(some.slice(1), 32)
    const moved = before.filter((slot, part) => slot !== after[part])
    assert.ok(moved.length <= Math.ceil(32 / count) * 2, `${count}: ${moved.length}`)
  }
})
