import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertDialable } from './assert-dialable.ts'

const target = { protocol: 'tcp', address: '10.1.1.1', port: 80 } as const

test('an address and a port of the protocol that is dialled are fine', () => {
  assertDialable(target, 'tcp')
  assertDialable({ ...target, protocol: 'udp', address: '2001:db8::1', port: 65_535 }, 'udp')
})

for (const [what, given, message] of [
  ['another protocol', { protocol: 'udp' }, 'connect udp 10.1.1.1:80: not a byte stream'],
  ['a name', { address: 'web.shop' }, 'connect web.shop:80: not an IP address'],
  ['no port', { port: 0 }, 'connect 10.1.1.1:0: not a port'],
  ['half a port', { port: 1.5 }, 'connect 10.1.1.1:1.5: not a port'],
] as const) {
  test(`${what} is refused`, () => {
    assert.throws(() => assertDialable({ ...target, ...given }, 'tcp'), { failure: 'forbidden', message })
  })
}

test('a byte stream is no way to send datagrams', () => {
  assert.throws(() => assertDialable(target, 'udp'), { message: 'connect tcp 10.1.1.1:80: not datagrams' })
})
