import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { backendIdOf, type ServicePort } from '../model/index.ts'
import { createCatalog, type ObjectLists, objectKinds, type Schedule, type Snapshot } from './index.ts'
import { sampleEndpoint, sampleNode, sampleService, sampleSlice } from './samples.ts'

const http: ServicePort = { name: 'http', protocol: 'tcp', port: 80 }

const stored: ObjectLists = {
  services: [sampleService(), sampleService({ name: 'gone', clusterIPs: ['10.96.0.9'] })],
  endpointSlices: [sampleSlice()],
  nodes: [sampleNode('edge-a')],
}

/** Publishes at once, so that every step that a consumer could ever see is seen. */
const atOnce: Schedule = (_delay, callback) => {
  callback()
  return { [Symbol.dispose]() {} }
}

function startCatalog(schedule: Schedule = atOnce) {
  const catalog = createCatalog({ schedule })
  const seen: Snapshot[] = []
  catalog.subscribe((snapshot) => seen.push(snapshot))
  return { catalog, seen }
}

const webBackendsIn = (snapshot: Snapshot) => snapshot.backendsOf(sampleService(), http).map(backendIdOf)

suite('a primed catalog', () => {
  test('is synced and publishes the stored objects at once, though no source has listed anything', () => {
    const { catalog, seen } = startCatalog(() => assert.fail('nothing is put off'))
    assert.deepEqual([catalog.isSynced, catalog.isListed], [false, false])
    const syncedAtDelivery: boolean[] = []
    catalog.subscribe(() => syncedAtDelivery.push(catalog.isSynced))
    catalog.prime(stored)
    assert.deepEqual([catalog.isSynced, catalog.isListed], [true, false])
    assert.deepEqual(syncedAtDelivery, [false, true])
    assert.deepEqual(
      seen.map(({ services }) => services.size),
      [0, 2],
    )
    assert.deepEqual(webBackendsIn(catalog.current), ['edge-a/10.0.0.1:8080'])
    assert.equal(catalog.current.nodes.size, 1)
  })

  test('keeps the backends of a Service in every snapshot while lists replace the stored kinds, in any order', () => {
    const fresh = [sampleEndpoint('10.0.0.1'), sampleEndpoint('10.0.0.2')]
    const lists = {
      services: (catalog: ReturnType<typeof createCatalog>) => catalog.replace('services', [sampleService()]),
      endpointSlices: (catalog: ReturnType<typeof createCatalog>) =>
        catalog.replace('endpointSlices', [sampleSlice({ name: 'web-2', endpoints: fresh })]),
      nodes: (catalog: ReturnType<typeof createCatalog>) => catalog.replace('nodes', [sampleNode('edge-b')]),
    }
    for (const order of permutationsOf(['services', 'endpointSlices', 'nodes'] as const)) {
      const { catalog, seen } = startCatalog()
      catalog.prime(stored)
      for (const kind of order) lists[kind](catalog)
      const afterPriming = seen.slice(1)
      assert.ok(afterPriming.length >= 3)
      for (const snapshot of afterPriming) {
        assert.ok(snapshot.services.has('shop/web') && snapshot.nodes.size === 1, order.join())
        assert.ok(webBackendsIn(snapshot).includes('edge-a/10.0.0.1:8080'), order.join())
      }
      assert.equal(catalog.isListed, true)
      assert.deepEqual([...catalog.current.services.keys()], ['shop/web'])
      assert.deepEqual(webBackendsIn(catalog.current), ['edge-a/10.0.0.1:8080', 'edge-a/10.0.0.2:8080'])
      assert.deepEqual([...catalog.current.nodes.keys()], ['edge-b'])
    }
  })

  test('takes a watch event for a kind that is not listed yet', () => {
    const { catalog } = startCatalog()
    catalog.prime(stored)
    catalog.remove('services', 'shop/gone')
    catalog.put('endpointSlices', sampleSlice({ endpoints: [sampleEndpoint('10.0.0.7')] }))
    assert.deepEqual([...catalog.current.services.keys()], ['shop/web'])
    assert.deepEqual(webBackendsIn(catalog.current), ['edge-a/10.0.0.7:8080'])
  })

  test('says when the last kind was listed, also when the lists hold what was stored', () => {
    const { catalog, seen } = startCatalog()
    catalog.prime(stored)
    const listedAt: boolean[] = []
    catalog.subscribe(() => listedAt.push(catalog.isListed))
    for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, stored[kind] ?? [])
    assert.deepEqual(listedAt, [false, true])
    const [, primed, listed] = seen
    assert.equal(primed?.services, listed?.services)
  })
})

test('what the source has listed is not overwritten by stored objects that are loaded late', () => {
  const { catalog } = startCatalog()
  catalog.replace('services', [sampleService({ name: 'new' })])
  catalog.prime(stored)
  assert.deepEqual([...catalog.current.services.keys()], ['shop/new'])
  assert.equal(catalog.current.nodes.size, 1)
  catalog.replace('endpointSlices', [])
  catalog.replace('nodes', [])
  catalog.prime(stored)
  assert.deepEqual([...catalog.current.services.keys()], ['shop/new'])
  assert.equal(catalog.current.nodes.size, 0)
})

test('a catalog gives all of its objects, also those that no snapshot shows', () => {
  const { catalog } = startCatalog()
  const orphan = sampleSlice({ name: 'orphan', serviceName: 'unknown' })
  const hidden = sampleSlice({ name: 'from-endpoints', fromEndpoints: true })
  const lists = { services: [sampleService()], endpointSlices: [sampleSlice(), orphan, hidden], nodes: [] }
  for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, lists[kind])
  assert.deepEqual(catalog.objects(), { ...lists, destinationRules: [], pods: [], gateways: [], virtualServices: [] })
})

test('a catalog shows Secrets and never gives them away to be kept', () => {
  const { catalog } = startCatalog()
  for (const kind of objectKinds) catalog.replace(kind, [])
  catalog.put('secrets', { namespace: 'shop', name: 'cert', data: { 'tls.key': 'eA==' } })
  assert.ok(!JSON.stringify(catalog.objects()).includes('tls.key'))
})

function permutationsOf<T>(items: readonly T[]): T[][] {
  if (items.length < 2) return [[...items]]
  return items.flatMap((first) =>
    permutationsOf(items.filter((item) => item !== first)).map((rest) => [first, ...rest]),
  )
}
