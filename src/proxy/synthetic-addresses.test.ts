import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isInIpv4Network, parseIpv4Network } from '../model/index.ts'
import { createSyntheticAddresses, createSyntheticPools, placeKeyOf } from './synthetic-addresses.ts'

const network = parseIpv4Network('169.254.64.0/19') ?? assert.fail()
const tiny = parseIpv4Network('169.254.64.0/29') ?? assert.fail()
const ports = () => [24001]
const ids = (count: number) => Array.from({ length: count }, (_, index) => `shop/service-${index}:80/tcp`)

test('every ServicePort gets its own address of the range, not the first and not the last', () => {
  const places = [...createSyntheticAddresses({ network, ports }).assign(ids(8190)).values()]
  const addresses = places.map(({ address }) => address)
  assert.ok(places.every(({ port }) => port === 24001))
  assert.equal(new Set(addresses).size, 8190)
  assert.ok(addresses.every((address) => isInIpv4Network(address, network)))
  assert.ok(!addresses.includes('169.254.64.0') && !addresses.includes('169.254.95.255'))
})

test('an address stays the same while others come and go, and after a restart', () => {
  const addresses = createSyntheticAddresses({ network, ports })
  const first = addresses.assign(['shop/web:80/tcp'])
  addresses.assign([...ids(1000), 'shop/web:80/tcp'])
  addresses.releaseAllBut(new Set(['shop/web:80/tcp']))
  assert.deepEqual(addresses.assign(['shop/web:80/tcp']), first)
  assert.deepEqual(createSyntheticAddresses({ network, ports }).assign(['shop/web:80/tcp']), first)
})

test('an address changes hands only after it was released', () => {
  const addresses = createSyntheticAddresses({ network: tiny, ports })
  const before = addresses.assign(ids(6))
  assert.equal(addresses.assign(['new']).size, 0)
  addresses.releaseAllBut(new Set(ids(5)))
  assert.deepEqual(addresses.assign(['new']).get('new'), before.get('shop/service-5:80/tcp'))
})

test('a full range leaves out what finds no place and keeps the rest', () => {
  const assigned = createSyntheticAddresses({ network: tiny, ports }).assign(ids(9))
  assert.deepEqual([...assigned.keys()], ids(6))
})

test('only places of ServicePorts are at further ports; what DNS hands out is an address alone', () => {
  const { servicePorts, endpoints } = createSyntheticPools(tiny, () => [24001, 24002])
  const [shared, alone] = [servicePorts.assign(ids(9)), endpoints.assign(ids(9))]
  assert.deepEqual([shared.size, alone.size], [8, 2])
  assert.ok([...alone.values()].every(({ port }) => port === 24001))
  const taken = new Set([...shared.values()].map(({ address }) => address))
  assert.ok([...alone.values()].every(({ address }) => !taken.has(address)))
})

test('parts of a range give no address twice', () => {
  const lower = createSyntheticAddresses({ network, ports, part: { from: 0, to: 0.75 } }).assign(ids(7000))
  const upper = createSyntheticAddresses({ network, ports, part: { from: 0.75, to: 1 } }).assign(ids(7000))
  assert.deepEqual([lower.size, upper.size], [6142, 2048])
  assert.equal(new Set([...lower.values(), ...upper.values()].map(placeKeyOf)).size, 8190)
})

test('more ports make more room, and nobody moves for it', () => {
  const open = [24001]
  const addresses = createSyntheticAddresses({ network: tiny, ports: () => open })
  const before = addresses.assign(ids(9))
  assert.equal(before.size, 6)
  open.push(24002)
  const after = addresses.assign(ids(13))
  assert.deepEqual([...after.values()].map(({ port }) => port).sort(), [
    ...new Array<number>(6).fill(24001),
    ...new Array<number>(6).fill(24002),
  ])
  assert.equal(new Set([...after.values()].map(placeKeyOf)).size, 12)
  for (const [id, place] of before) assert.equal(after.get(id), place)
  // Who comes next gets the place that was freed, at the first port.
  addresses.releaseAllBut(new Set([...after.keys()].slice(1)))
  assert.deepEqual(addresses.assign(['new']).get('new'), after.get('shop/service-0:80/tcp'))
})
