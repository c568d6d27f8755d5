import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ShardedMap } from '../runtime/index.ts'
import { changedEntries, createAddressing, createFarAddressing } from './addressed-entries.ts'
import { createPlaces } from './places.fixture.ts'
import type { PlannedServicePort } from './service-plan.ts'
import type { SyntheticAddresses, SyntheticPlace } from './synthetic-addresses.ts'

const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
const away = { nodeName: 'edge-b1', address: '10.244.2.2', port: 8080 }

function planned(id: string, isCarried = true): PlannedServicePort {
  return { id, destinations: [], direct: [], userspace: isCarried ? [away] : [], reserve: [], policy }
}

const at = createPlaces()
const noOthers = new Map<string, SyntheticPlace>()

/** Addresses are the ids in capitals; writes down who was asked for. */
function createPool(limit = Number.POSITIVE_INFINITY) {
  const asked: string[][] = []
  const pool: SyntheticAddresses & { limit: number } = {
    limit,
    assign(ids) {
      const list = [...ids]
      asked.push(list)
      return new Map(list.slice(0, pool.limit).map((id) => [id, at(id.toUpperCase())]))
    },
    releaseAllBut() {},
  }
  return { pool, asked }
}

test('only who is new is given an address, and who is gone loses it', () => {
  const { pool, asked } = createPool()
  const addressing = createAddressing(pool)
  const others = new Map([['far', at('FAR')]])
  const [a, b, c] = [planned('a'), planned('b'), planned('c')]
  const first = addressing([a, b, planned('local', false)], others)
  assert.deepEqual(new Map(first.synthetic), new Map([...others, ['a', at('A')], ['b', at('B')]]))
  const second = addressing([a, c], others)
  assert.deepEqual(new Map(second.synthetic), new Map([...others, ['a', at('A')], ['c', at('C')]]))
  assert.deepEqual(asked, [['a', 'b'], ['c']])
})

test('addresses are the same object while nobody comes or goes', () => {
  const addressing = createAddressing(createPool().pool)
  const entry = planned('a')
  const { synthetic } = addressing([entry], noOthers)
  assert.equal(addressing([entry], noOthers).synthetic, synthetic)
  assert.equal(addressing([entry, planned('local', false)], noOthers).synthetic, synthetic)
})

test('who found the range full is asked for again until there is room, and nobody else is', () => {
  const { pool, asked } = createPool(1)
  const addressing = createAddressing(pool)
  const entries = [planned('a'), planned('b'), planned('c')]
  assert.equal(addressing(entries, noOthers).missing, 2)
  pool.limit = 0
  assert.equal(addressing(entries, noOthers).missing, 2)
  assert.equal(addressing(entries.slice(0, 2), noOthers).missing, 1)
  pool.limit = 1
  const { synthetic, missing } = addressing(entries.slice(0, 2), noOthers)
  assert.equal(missing, 0)
  assert.deepEqual(new Map(synthetic), new Map(Object.entries({ a: at('A'), b: at('B') })))
  addressing(entries.slice(0, 2), noOthers)
  assert.deepEqual(asked, [['a', 'b', 'c'], ['b', 'c'], ['b'], ['b'], []])
})

test('new addresses of others count at once', () => {
  const addressing = createAddressing(createPool().pool)
  const entries = [planned('a')]
  addressing(entries, new Map([['far', at('1')]]))
  const { synthetic } = addressing(entries, new Map([['far', at('2')]]))
  assert.deepEqual(new Map(synthetic), new Map(Object.entries({ a: at('A'), far: at('2') })))
})

test('endpoints of headless Services keep their addresses as one object, and are asked for again when one has none', () => {
  const { pool, asked } = createPool()
  const far = [{ id: 'endpoint', nodeName: 'edge-b1', address: '10.244.2.2', ports: [] }]
  const addressing = createFarAddressing(pool)
  assert.equal(addressing(far), addressing(far))
  assert.equal(asked.length, 1)
  pool.limit = 0
  const other = [...far]
  assert.equal(addressing(other).missing, 1)
  pool.limit = 1
  assert.equal(addressing(other).addresses.get('endpoint'), at('ENDPOINT'))
})

test('an address that changes under an entry that stays means that all must be looked at', () => {
  const [a, b, c] = [planned('a'), planned('b'), planned('c')]
  const addresses = (texts: Record<string, string>) =>
    ShardedMap.empty<SyntheticPlace>().updated(Object.keys(texts), (key) => at(texts[key] ?? ''))
  const before = { entries: [a, b], synthetic: addresses({ a: '1', b: '2' }) }
  const after = changedEntries(before, { entries: [a, c], synthetic: addresses({ a: '1', c: '3' }) })
  assert.deepEqual(after, { removed: [b], added: [c] })
  assert.equal(changedEntries(before, { entries: [a, b], synthetic: addresses({ a: '9', b: '2' }) }), undefined)
})
