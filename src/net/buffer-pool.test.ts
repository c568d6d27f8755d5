import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BufferPool, isBufferReturner } from './buffer-pool.ts'

test('a buffer that is given back is the next one that is taken', () => {
  const pool = new BufferPool(1000, 2)
  const first = pool.take()
  assert.equal(first.length, 1000)
  const second = pool.take()
  assert.notEqual(first.buffer, second.buffer)
  pool.give(first.subarray(3, 7))
  assert.equal(pool.take(), first)
})

test('a buffer that is given back twice is still lent only once', () => {
  const pool = new BufferPool(1000, 2)
  const buffer = pool.take()
  pool.give(buffer)
  pool.give(buffer)
  assert.notEqual(pool.take(), pool.take())
})

test('bytes from elsewhere are not taken', () => {
  const pool = new BufferPool(1000, 2)
  const strange = Buffer.allocUnsafeSlow(1000)
  pool.give(strange)
  assert.notEqual(pool.take(), strange)
})

test('no more than agreed are kept', () => {
  const pool = new BufferPool(1000, 2)
  const buffers = Array.from({ length: 3 }, () => pool.take())
  for (const buffer of buffers) pool.give(buffer)
  const again = new Set(Array.from({ length: 3 }, () => pool.take()))
  assert.equal(buffers.filter((buffer) => again.has(buffer)).length, 2)
})

test('only streams that say so give buffers back', () => {
  assert.equal(isBufferReturner({ returnsBuffers: true }), true)
  assert.equal(isBufferReturner({}), false)
})
