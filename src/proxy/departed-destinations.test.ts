import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDepartedDestinations } from './departed-destinations.ts'
import type { PlannedServicePort, ServicePlan } from './service-plan.ts'

/** A plan of Services by the last numbers of their addresses. */
function planOf(...hosts: readonly number[]): ServicePlan {
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  const servicePorts = hosts.map((host): PlannedServicePort => {
    const destinations = [{ protocol: 'tcp', address: `10.96.0.${host}`, port: 80 }] as const
    return { id: `shop/${host}:80/tcp`, destinations, direct: [], userspace: [], reserve: [], policy }
  })
  const addresses = servicePorts.flatMap(({ destinations }) => destinations.map(({ address }) => address))
  return { servicePorts, addresses, external: [], nodePorts: [], healthChecks: [] }
}

const nobodys = () => false
const hostsOf = (list: readonly PlannedServicePort[]) => list.map(({ destinations }) => destinations[0]?.address)

function setUp() {
  const clock = { nowMs: 0 }
  return { clock, departed: createDepartedDestinations(() => clock.nowMs) }
}

test('a destination that was planned and is no more is refused for a while', () => {
  const { clock, departed } = setUp()
  assert.deepEqual(departed.after(planOf(1, 2), nobodys), [])
  const after = planOf(2)
  const refused = departed.after(after, nobodys)
  assert.deepEqual(hostsOf(refused), ['10.96.0.1'])
  clock.nowMs = 299_999
  assert.equal(departed.after(after, nobodys), refused)
  clock.nowMs = 300_000
  assert.deepEqual(departed.after(after, nobodys), [])
})

test('a destination that comes back is served, and one that somebody else serves is left alone', () => {
  const { departed } = setUp()
  departed.after(planOf(1, 2), nobodys)
  assert.equal(departed.after(planOf(), nobodys).length, 2)
  assert.deepEqual(hostsOf(departed.after(planOf(1), nobodys)), ['10.96.0.2'])
  assert.deepEqual(
    departed.after(planOf(1), (address) => address === '10.96.0.2'),
    [],
  )
})

test('the memory is bounded', () => {
  const { departed } = setUp()
  for (let round = 0; round < 8; round++) {
    departed.after(planOf(...Array.from({ length: 200 }, (_, at) => round * 200 + at)), nobodys)
  }
  assert.equal(departed.after(planOf(), nobodys).length, 1_000)
})
