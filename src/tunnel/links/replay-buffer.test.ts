import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ReplayBuffer } from './replay-buffer.ts'

function createBuffer(limitBytes = 10_000) {
  let taken = 0
  const buffer = new ReplayBuffer({
    takeReplay(bytes) {
      if (taken + bytes > limitBytes) return false
      taken += bytes
      return true
    },
    giveReplay(bytes) {
      taken -= bytes
    },
  })
  const add = (text: string) => buffer.add(Buffer.from(text), true)
  const since = (offset: number) => {
    const pieces = buffer.since(offset)
    return pieces && Buffer.concat(pieces).toString()
  }
  return { buffer, add, since, taken: () => taken }
}

test('what was sent can be had again from any offset that has not arrived', () => {
  const { buffer, add, since } = createBuffer()
  for (const text of ['abc', 'de', 'fghi']) add(text)
  assert.equal(buffer.end, 9)
  assert.equal(since(0), 'abcdefghi')
  assert.equal(since(4), 'efghi')
  assert.equal(since(9), '')
})

test('what has arrived is let go, and cannot be had again', () => {
  const { buffer, add, since, taken } = createBuffer()
  add('abc')
  add('def')
  const before = taken()
  buffer.acknowledge(4)
  assert.ok(taken() < before)
  assert.equal(since(2), undefined)
  assert.equal(since(4), 'ef')
  buffer.acknowledge(6)
  assert.deepEqual([buffer.isEmpty, taken()], [true, 0])
})

test('an old acknowledgement changes nothing', () => {
  const { buffer, add, since } = createBuffer()
  add('abcdef')
  buffer.acknowledge(6)
  add('gh')
  buffer.acknowledge(3)
  assert.equal(since(6), 'gh')
})

test('what was never sent cannot be had', () => {
  const { add, since } = createBuffer()
  add('abc')
  assert.equal(since(4), undefined)
})

test('without room everything is let go, and what comes later can be had again', () => {
  const { buffer, add, since, taken } = createBuffer(1000)
  add('abc')
  add('x'.repeat(1000))
  assert.deepEqual([buffer.isEmpty, taken(), buffer.end], [true, 0, 1003])
  assert.equal(since(3), undefined)
  add('def')
  assert.equal(since(1003), 'def')
  buffer.clear()
  assert.equal(taken(), 0)
})
