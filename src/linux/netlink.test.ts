import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { decodeAttributes, encodeAttribute, openDiagnosticsSocket } from './netlink.ts'

setFlagsFromString('--expose-gc')
const collect: () => void = runInNewContext('gc')

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

test('an answer is kept by who has asked alone', async () => {
  using requests = await openDiagnosticsSocket()
  const ask = async () => new WeakRef(await requests.ask('ask', async () => ({ links: ['lo'] })))
  const answer = await ask()
  await new Promise(setImmediate)
  collect()
  assert.equal(answer.deref(), undefined)
})

test('a request that fails keeps nobody from asking again', async () => {
  using requests = await openDiagnosticsSocket()
  const failing = requests.ask('ask', () => Promise.reject(new Error('no')))
  const next = requests.ask('ask', async () => 'yes')
  await assert.rejects(failing, /no/)
  assert.equal(await next, 'yes')
})
