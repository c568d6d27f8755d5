import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isInIpv4Network, parseIpv4Network } from '../model/index.ts'
import { createSyntheticAddresses } from './synthetic-addresses.ts'

const network = parseIpv4Network('169.254.64.0/19') ?? assert.fail()
const tiny = parseIpv4Network('169.254.64.0/29') ?? assert.fail()
const ids = (count: number) => Array.from({ length: count }, (_, index) => `shop/service-${index}:80/tcp`)

test('every ServicePort gets its own address of the range, not the first and not the last', () => {
  const addresses = [...createSyntheticAddresses(network).assign(ids(8190)).values()]
  assert.equal(new Set(addresses).size, 8190)
  assert.ok(addresses.every((address) => isInIpv4Network(address, network)))
  assert.ok(!addresses.includes('169.254.64.0') && !addresses.includes('169.254.95.255'))
})

test('an address stays the same while others come and go, and after a restart', () => {
  const addresses = createSyntheticAddresses(network)
  const first = addresses.assign(['shop/web:80/tcp'])
  addresses.assign([...ids(1000), 'shop/web:80/tcp'])
  addresses.releaseAllBut(new Set(['shop/web:80/tcp']))
  assert.deepEqual(addresses.assign(['shop/web:80/tcp']), first)
  assert.deepEqual(createSyntheticAddresses(network).assign(['shop/web:80/tcp']), first)
})

test('an address changes hands only after it was released', () => {
  const addresses = createSyntheticAddresses(tiny)
  const before = addresses.assign(ids(6))
  assert.equal(addresses.assign(['new']).size, 0)
  addresses.releaseAllBut(new Set(ids(5)))
  assert.equal(addresses.assign(['new']).get('new'), before.get('shop/service-5:80/tcp'))
})

test('a full range leaves out what finds no place and keeps the rest', () => {
  const assigned = createSyntheticAddresses(tiny).assign(ids(9))
  assert.deepEqual([...assigned.keys()], ids(6))
})

test('parts of a range give no address twice', () => {
  const lower = createSyntheticAddresses(network, { from: 0, to: 0.75 }).assign(ids(7000))
  const upper = createSyntheticAddresses(network, { from: 0.75, to: 1 }).assign(ids(7000))
  assert.deepEqual([lower.size, upper.size], [6142, 2048])
  assert.equal(new Set([...lower.values(), ...upper.values()]).size, 8190)
})
