import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requestMessageOf } from '../flows/open-message.ts'
import { OpenRequests } from './open-requests.ts'

const request = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const
const payloadOf = (port: number, padding = '') =>
  Buffer.from(`${JSON.stringify(requestMessageOf({ ...request, port }))}${padding}`)

test('the same request is read once', () => {
  const requests = new OpenRequests()
  const first = requests.read(payloadOf(80))
  assert.deepEqual(first, request)
  assert.equal(requests.read(payloadOf(80)), first)
  assert.deepEqual(requests.read(payloadOf(81)), { ...request, port: 81 })
})

test('a peer that asks for ever new targets is understood, and no more than some are remembered', () => {
  const requests = new OpenRequests()
  const first = requests.read(payloadOf(1))
  for (let port = 2; port < 1_000; port++) assert.equal(requests.read(payloadOf(port)).port, port)
  assert.notEqual(requests.read(payloadOf(1)), first)
})

test('a long request is read, and not remembered', () => {
  const requests = new OpenRequests()
  const long = payloadOf(80, ' '.repeat(1_000))
  assert.deepEqual(requests.read(long), request)
  assert.notEqual(requests.read(long), requests.read(long))
})

test('what is no request is refused each time', () => {
  const requests = new OpenRequests()
  for (const text of ['no JSON', '{}', '{"open":{"protocol":"tcp","nodeName":"x","address":"x","port":80}}']) {
    for (const _ of [1, 2])
      assert.throws(() => requests.read(Buffer.from(text)), { name: /^(LinkProtocol|Frame)Error$/ })
  }
})
