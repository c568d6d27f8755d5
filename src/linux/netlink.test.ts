import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeAttributes, encodeAttribute } from './netlink.ts'

test('attributes are padded to four bytes and found again', () => {
  const bytes = Buffer.concat([
    encodeAttribute(1, Buffer.from('dummy\0')),
    encodeAttribute(7, Buffer.from([1, 2, 3, 4])),
  ])
  assert.equal(bytes.length, 12 + 8)
  const attributes = decodeAttributes(bytes)
  assert.equal(attributes.get(1)?.toString(), 'dummy\0')
  assert.deepEqual(attributes.get(7), Buffer.from([1, 2, 3, 4]))
})

test('the flag for nested attributes is no part of the type', () => {
  assert.ok(decodeAttributes(encodeAttribute(0x8000 | 5, Buffer.alloc(0))).has(5))
})

test('bytes that are no attributes end the decoding', () => {
  assert.equal(decodeAttributes(Buffer.from([0, 0, 0, 0, 1])).size, 0)
  assert.equal(decodeAttributes(Buffer.from([200, 0, 1, 0, 1, 2])).size, 0)
  assert.equal(decodeAttributes(Buffer.from([4])).size, 0)
})
