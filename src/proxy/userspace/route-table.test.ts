import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPlaces } from '../places.fixture.ts'
import { placeKeyOf } from '../synthetic-addresses.ts'
import { createRouteTable, type UserspaceRoute } from './route-table.ts'

const placeAt = createPlaces()

/** A route by its place. */
function at(address: string, route: UserspaceRoute): [string, UserspaceRoute] {
  const place = placeAt(address)
  return [placeKeyOf(place), { ...route, place }]
}

const web: UserspaceRoute = {
  id: 'shop/web:80/tcp',
  protocol: 'tcp',
  place: placeAt('169.254.64.1'),
  preferred: [1, 2].map((port) => ({ address: '10.0.0.1', port })),
  others: [],
}

function createTable() {
  return createRouteTable(
    { balancing: { kind: 'round-robin' }, readsRequests: false },
    { random: () => 0, nowMs: () => 0 },
  )
}

function pickPort(table: ReturnType<typeof createTable>, address: string): number | undefined {
  return table.find(address, 24001)?.balancer.attempts().next().value?.port
}

test('a route is found by its address, also in the form that a dual-stack listener reports', () => {
  const table = createTable()
  table.replace(new Map([at('169.254.64.1', web)]))
  assert.equal(table.find('169.254.64.1', 24001)?.id, web.id)
  assert.equal(table.find('::ffff:169.254.64.1', 24001)?.id, web.id)
  assert.equal(table.find('169.254.64.2', 24001), undefined)
  assert.equal(table.find('169.254.64.1', 24002), undefined)
  assert.equal(table.find(undefined, 24001), undefined)
  assert.equal(table.find('169.254.64.1', undefined), undefined)
  assert.equal(table.size, 1)
})

test('replacing removes what is no longer there', () => {
  const table = createTable()
  table.replace(new Map([at('169.254.64.1', web)]))
  table.replace(new Map())
  assert.equal(table.find('169.254.64.1', 24001), undefined)
  assert.equal(table.size, 0)
})

test('a ServicePort keeps its turns when its address or its backends change', () => {
  const table = createTable()
  table.replace(new Map([at('169.254.64.1', web)]))
  assert.equal(pickPort(table, '169.254.64.1'), 1)
  table.replace(new Map([at('169.254.64.7', { ...web, preferred: [...web.preferred] })]))
  assert.equal(pickPort(table, '169.254.64.7'), 2)
})

test('a policy that changes takes effect at once and keeps the turns', () => {
  const table = createTable()
  const route = () => table.find('169.254.64.1', 24001)
  table.replace(new Map([at('169.254.64.1', web)]))
  assert.equal(pickPort(table, '169.254.64.1'), 1)
  const policy = { balancing: { kind: 'random' }, readsRequests: false, maxConnections: 3 } as const
  table.replace(new Map([at('169.254.64.1', { ...web, policy })]))
  assert.deepEqual(route()?.policy, policy)
  assert.equal(pickPort(table, '169.254.64.1'), 1)
  table.replace(new Map([at('169.254.64.1', web)]))
  assert.equal(pickPort(table, '169.254.64.1'), 2)
  assert.equal(route()?.policy.maxConnections, undefined)
})

test('an address that now names another ServicePort has turns of its own', () => {
  const table = createTable()
  table.replace(new Map([at('169.254.64.1', web)]))
  pickPort(table, '169.254.64.1')
  table.replace(new Map([at('169.254.64.1', { ...web, id: 'shop/api:80/tcp' })]))
  assert.equal(pickPort(table, '169.254.64.1'), 1)
})

test('a route that stays as it is costs nothing when others change', () => {
  let looks = 0
  const preferred = new Proxy(web.preferred, {
    get(backends, key) {
      looks += 1
      return Reflect.get(backends, key)
    },
  })
  const table = createTable()
  table.replace(new Map([at('169.254.64.1', { ...web, preferred })]))
  pickPort(table, '169.254.64.1')
  const looksAtFirst = looks
  assert.ok(looksAtFirst > 0)
  const other = { ...web, id: 'shop/other:80/tcp' } as const
  table.replace(new Map([at('169.254.64.1', { ...web, preferred }), at('169.254.64.2', other)]))
  assert.equal(looks, looksAtFirst)
  assert.equal(table.size, 2)
})

test('ServicePorts of UDP are apart from those of TCP', () => {
  const table = createTable()
  const dns: UserspaceRoute = { ...web, id: 'shop/dns:53/udp', protocol: 'udp' }
  table.replace(new Map([at('169.254.64.1', web), at('169.254.64.2', dns)]))
  assert.equal(table.find('169.254.64.2', 24001), undefined)
  assert.deepEqual(
    [...table.datagramRoutes().values()].map(({ place, route }) => [place, route.id]),
    [[placeAt('169.254.64.2'), dns.id]],
  )
})
