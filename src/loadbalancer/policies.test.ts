import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backend, BalancingPolicy, HashKey } from '../model/index.ts'
import { repeatableRandom } from '../runtime/repeatable-random.fixture.ts'
import { type Balancer, type BalancerPolicy, createBalancer } from './balancer.ts'
import type { Client } from './choose.ts'

const ten = Array.from({ length: 10 }, (_, index) => ({ nodeName: 'edge', address: `10.244.0.${index}`, port: 80 }))

function createFixture(policy: BalancerPolicy, backends: readonly Backend[] = ten, seed = 1) {
  const clock = { nowMs: 0 }
  const balancer = createBalancer(policy, { random: repeatableRandom(seed), nowMs: () => clock.nowMs })
  balancer.setBackends(backends, [])
  return { clock, balancer }
}

function pick(balancer: Balancer, client: Client = {}): string {
  const next = balancer.attempts(client).next()
  return next.done ? '' : next.value.address
}

function countPicks(picks: number, pickOne: (index: number) => string): number[] {
  const counts = new Map(ten.map(({ address }) => [address, 0]))
  for (let index = 0; index < picks; index++) {
    const address = pickOne(index)
    counts.set(address, (counts.get(address) ?? 0) + 1)
  }
  return [...counts.values()]
}

const hashBy = (key: HashKey): BalancerPolicy => ({
  balancing: { kind: 'consistent-hash', key, ring: { kind: 'ring' } },
})
const bySource = hashBy({ kind: 'source-ip' })

test('round robin is exact to one at every moment, for each ServicePort on its own', () => {
  const web = createFixture({ balancing: { kind: 'round-robin' } })
  const api = createFixture({ balancing: { kind: 'round-robin' } }, ten, 2)
  const counts = { web: new Map<string, number>(), api: new Map<string, number>() }
  for (let index = 0; index < 1_003; index++) {
    // Interleaved, as on a node: one ServicePort's turns are none of the other's business.
    for (const name of index % 3 === 0 ? (['web', 'api'] as const) : (['web'] as const)) {
      const address = pick(name === 'web' ? web.balancer : api.balancer)
      counts[name].set(address, (counts[name].get(address) ?? 0) + 1)
      const all = ten.map((backend) => counts[name].get(backend.address) ?? 0)
      assert.ok(Math.max(...all) - Math.min(...all) <= 1, `${name}: ${all}`)
    }
  }
})

for (const kind of ['random', 'passthrough'] as const) {
  test(`10,000 picks of ${kind} pass the chi-square test at p > 0.001`, () => {
    for (const seed of [1, 2, 3, 4, 5]) {
      const { balancer } = createFixture({ balancing: { kind } }, ten, seed)
      const counts = countPicks(10_000, () => pick(balancer))
      const chiSquare = counts.reduce((sum, count) => sum + (count - 1_000) ** 2 / 1_000, 0)
      // The quantile of 0.999 with nine degrees of freedom.
      assert.ok(chiSquare < 27.88, `seed ${seed}: ${chiSquare} of ${counts}`)
    }
  })
}

test('least request sends to the less busy of two, so that one that is stuck with connections gets few', () => {
  const { balancer } = createFixture({ balancing: { kind: 'least-request' } })
  const held: Disposable[] = []
  const stuck = ten[0] as Backend
  for (let count = 0; count < 5_000; count++) held.push(balancer.hold(stuck))
  const counts = countPicks(2_000, () => {
    const address = pick(balancer)
    held.push(balancer.hold(ten.find((backend) => backend.address === address) as Backend))
    return address
  })
  // Against the stuck one every other wins; the others stay close to each other.
  assert.equal(counts[0], 0)
  assert.ok(Math.max(...counts.slice(1)) - Math.min(...counts.slice(1)) <= 10, String(counts))
})

test('connections that have ended no longer count for least request', () => {
  const { balancer } = createFixture({ balancing: { kind: 'least-request' } }, ten.slice(0, 2))
  const held = balancer.hold(ten[0] as Backend)
  assert.deepEqual(new Set(Array.from({ length: 50 }, () => pick(balancer))), new Set([ten[1]?.address]))
  held[Symbol.dispose]()
  held[Symbol.dispose]()
  assert.equal(new Set(Array.from({ length: 50 }, () => pick(balancer))).size, 2)
})

test('the hash of the source goes by address, not by port (D-11)', () => {
  const { balancer } = createFixture(bySource)
  const first = ten.map((_, index) => pick(balancer, { address: `10.1.0.${index}` }))
  for (let round = 0; round < 20; round++) {
    assert.deepEqual(
      ten.map((_, index) => pick(balancer, { address: `10.1.0.${index}`, key: `ignored ${round}` })),
      first,
    )
  }
  assert.ok(new Set(first).size > 1)
})

test('the hash of a request goes by its key, whoever sends it, and is random without one', () => {
  const { balancer } = createFixture(hashBy({ kind: 'http-header', name: 'x-user' }))
  const picks = Array.from({ length: 20 }, (_, index) => pick(balancer, { address: `10.1.0.${index}`, key: 'alice' }))
  assert.equal(new Set(picks).size, 1)
  assert.equal(pick(balancer, { key: '' }), pick(balancer, { key: '' }))
  const without = Array.from({ length: 200 }, () => pick(balancer, { address: '10.1.0.1' }))
  assert.equal(new Set(without).size, 10)
})

test('every node places keys alike, in whatever order it learnt of the backends', () => {
  const here = createFixture(bySource).balancer
  const there = createFixture(bySource, [...ten].reverse(), 99).balancer
  for (let index = 0; index < 100; index++) {
    const client = { address: `10.1.0.${index}` }
    assert.equal(pick(here, client), pick(there, client))
  }
})

test('removing one of ten backends moves at most 15 % of the clients, and an ejected one only its own', () => {
  const clients = Array.from({ length: 1_000 }, (_, index) => ({ address: `10.${index >> 8}.7.${index & 255}` }))
  const { balancer } = createFixture(bySource)
  const before = clients.map((client) => pick(balancer, client))
  const gone = ten[3] as Backend
  balancer.dialFailed(gone)
  const whileEjected = clients.map((client) => pick(balancer, client))
  for (const [index, address] of before.entries()) {
    if (address !== gone.address) assert.equal(whileEjected[index], address)
    else assert.notEqual(whileEjected[index], address)
  }
  balancer.setBackends(
    ten.filter((backend) => backend !== gone),
    [],
  )
  const moved = clients.filter((client, index) => pick(balancer, client) !== before[index]).length
  assert.ok(moved <= 150, String(moved))
  balancer.setBackends(ten, [])
  balancer.dialSucceeded(gone)
  assert.deepEqual(
    clients.map((client) => pick(balancer, client)),
    before,
  )
})

for (const kind of ['round-robin', 'random', 'least-request'] as const) {
  test(`affinity holds for every client until its time is over, with ${kind}`, () => {
    const { balancer, clock } = createFixture({ balancing: { kind }, affinitySeconds: 60 })
    const clients = Array.from({ length: 200 }, (_, index) => ({ address: `10.1.0.${index}` }))
    const first = clients.map((client) => pick(balancer, client))
    assert.ok(new Set(first).size > 1)
    for (let round = 0; round < 20; round++) {
      // Each connection begins the time anew.
      clock.nowMs += 59_999
      assert.deepEqual(
        clients.map((client) => pick(balancer, client)),
        first,
      )
    }
    clock.nowMs += 60_000
    // Else round robin would happen to be where it began.
    pick(balancer)
    assert.notDeepEqual(
      clients.map((client) => pick(balancer, client)),
      first,
    )
  })
}

test('a client whose backend fails keeps the one that took over', () => {
  const { balancer } = createFixture({ balancing: { kind: 'round-robin' }, affinitySeconds: 60 })
  const client = { address: '10.1.0.1' }
  const attempts = balancer.attempts(client)
  const [first, second] = [attempts.next().value as Backend, attempts.next().value as Backend]
  balancer.dialFailed(first)
  balancer.dialSucceeded(second, client)
  for (let round = 0; round < 5; round++) assert.equal(pick(balancer, client), second.address)
  // Also once the first one is back.
  balancer.dialSucceeded(first)
  assert.equal(pick(balancer, client), second.address)
})

test('a changed timeout of the affinity takes effect, also after clients were remembered (D-17)', () => {
  const { balancer, clock } = createFixture({ balancing: { kind: 'round-robin' }, affinitySeconds: 10_800 })
  const client = { address: '10.1.0.1' }
  pick(balancer, client)
  balancer.setPolicy({ balancing: { kind: 'round-robin' }, affinitySeconds: 5 })
  const own = pick(balancer, client)
  clock.nowMs += 4_999
  assert.equal(pick(balancer, client), own)
  clock.nowMs += 5_000
  assert.notEqual(pick(balancer, client), own)
  balancer.setPolicy({ balancing: { kind: 'round-robin' } })
  assert.notEqual(pick(balancer, client), pick(balancer, client))
})

test('a client whose backend is gone gets another one and keeps that', () => {
  const { balancer } = createFixture({ balancing: { kind: 'random' }, affinitySeconds: 60 })
  const client = { address: '10.1.0.1' }
  const first = pick(balancer, client)
  balancer.setBackends(
    ten.filter(({ address }) => address !== first),
    [],
  )
  const second = pick(balancer, client)
  assert.notEqual(second, first)
  for (let round = 0; round < 20; round++) assert.equal(pick(balancer, client), second)
})

test('whatever the policy, a connection meets every backend once and those that failed last', () => {
  const policies: readonly BalancingPolicy[] = [
    { kind: 'round-robin' },
    { kind: 'random' },
    { kind: 'least-request' },
    { kind: 'passthrough' },
    { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring: { kind: 'ring' } },
    { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring: { kind: 'ring', minimumSize: 64 } },
    { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring: { kind: 'maglev' } },
  ]
  for (const balancing of policies) {
    for (const affinitySeconds of [undefined, 60]) {
      const { balancer } = createFixture({ balancing, ...(affinitySeconds === undefined ? {} : { affinitySeconds }) })
      const client = { address: '10.1.0.1' }
      const [failed] = [...balancer.attempts(client)] as [Backend]
      balancer.dialFailed(failed)
      const tried = [...balancer.attempts(client)].map(({ address }) => address)
      assert.equal(new Set(tried).size, 10, balancing.kind)
      assert.equal(tried.length, 10, balancing.kind)
      assert.equal(tried.at(-1), failed.address, balancing.kind)
    }
  }
})

test('a changed policy keeps what is known of the backends', () => {
  const { balancer } = createFixture({ balancing: { kind: 'round-robin' } })
  const failed = ten[0] as Backend
  balancer.dialFailed(failed)
  balancer.setPolicy({ balancing: { kind: 'random' } })
  assert.equal([...balancer.attempts()].at(-1), failed)
})
