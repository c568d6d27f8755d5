import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeAttribute } from './netlink.ts'
import { addressOf, endOf, keysInMessage } from './refusals.ts'

const nested = 0x8000

function element(key: Buffer): Buffer {
  return encodeAttribute(1 | nested, encodeAttribute(1 | nested, encodeAttribute(1, key)))
}

const message = (...keys: readonly Buffer[]): Buffer =>
  Buffer.concat([
    encodeAttribute(1, Buffer.from('edgemesh\0')),
    encodeAttribute(3 | nested, Buffer.concat(keys.map(element))),
  ])

const endsInMessage = (bytes: Buffer) => keysInMessage(bytes).flatMap(endOf)

test('each element of a message is an address and a port', () => {
  const keys = [Buffer.from([10, 244, 1, 2, 0x1f, 0x90, 0, 0]), Buffer.from([10, 244, 1, 3, 0, 80, 0, 0])]
  assert.deepEqual(endsInMessage(message(...keys)), [
    { address: '10.244.1.2', port: 8080 },
    { address: '10.244.1.3', port: 80 },
  ])
})

test('an empty set, other keys and broken messages hold none', () => {
  assert.deepEqual(endsInMessage(message()), [])
  assert.deepEqual(endsInMessage(message(Buffer.from([10, 244, 1, 2]))), [])
  assert.deepEqual(endsInMessage(Buffer.alloc(0)), [])
  const whole = message(Buffer.from([10, 244, 1, 2, 0, 80, 0, 0]))
  for (let length = 0; length < whole.length; length++) assert.deepEqual(endsInMessage(whole.subarray(0, length)), [])
})

test('keys of four bytes are addresses', () => {
  const [address, end] = [Buffer.from([10, 244, 1, 2]), Buffer.from([10, 244, 1, 2, 0, 80, 0, 0])]
  assert.deepEqual(keysInMessage(message(address, end)).flatMap(addressOf), ['10.244.1.2'])
})
