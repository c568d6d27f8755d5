import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { backendIdOf, type Endpoint, type Pod } from '../model/index.ts'
import { createCatalog } from './index.ts'
import { sampleEndpoint, samplePod, sampleService, sampleSlice } from './samples.ts'

const web = sampleService()
const ref = { pod: { namespace: 'shop', name: 'web-0' } }
const atOld = sampleEndpoint('10.0.0.1', ref)

/** A catalog of the node `edge-a` that publishes at once. */
function startCatalog(endpoints: readonly Endpoint[], from: 'disk' | 'source', nodeName = 'edge-a') {
  const catalog = createCatalog({
    nodeName,
    schedule: (_delay, callback) => {
      callback()
      return { [Symbol.dispose]() {} }
    },
  })
  const lists = { services: [web], endpointSlices: [sampleSlice({ endpoints })], nodes: [], pods: [samplePod()] }
  if (from === 'disk') catalog.prime(lists)
  else for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, lists[kind] as never)
  const backends = () => {
    const { current } = catalog
    const found = web.ports.flatMap((port) => current.backendsOf(web, port))
    // The far end must let in exactly what this end would dial.
    for (const { nodeName: node, address, port } of found) {
      const target = { protocol: 'tcp', nodeName: node, address, port } as const
      assert.equal(current.servicePortOfTarget(target), 'shop/web:http/tcp')
    }
    return found.map(backendIdOf).join()
  }
  const isTarget = (address: string) =>
    catalog.current.servicePortOfTarget({ protocol: 'tcp', nodeName: 'edge-a', address, port: 8080 }) !== undefined
  const pods = (...list: readonly Pod[]) => catalog.replace('pods', list)
  return { catalog, backends, isTarget, pods }
}

const moved = samplePod({ podIPs: ['10.0.0.9'] })

suite('an endpoint of the own node', () => {
  for (const from of ['disk', 'source'] as const) {
    test(`that the ${from} tells is where its Pod says that it is`, () => {
      const { backends, isTarget, pods } = startCatalog([atOld], from)
      assert.equal(backends(), 'edge-a/10.0.0.1:8080')
      pods(moved)
      assert.equal(backends(), 'edge-a/10.0.0.9:8080')
      assert.deepEqual([isTarget('10.0.0.1'), isTarget('10.0.0.9')], [false, true])
    })
  }

  test('stays where the slices say while only the disk has told of Pods', () => {
    const { catalog, backends } = startCatalog([sampleEndpoint('10.0.0.2', ref)], 'disk')
    assert.equal(backends(), 'edge-a/10.0.0.2:8080')
    catalog.put('pods', moved)
    assert.equal(backends(), 'edge-a/10.0.0.2:8080')
  })

  test('whose Pod is gone is none while its slice comes from disk, and is what a source says', () => {
    const { catalog, backends, pods } = startCatalog([atOld, sampleEndpoint('10.0.0.5')], 'disk')
    pods()
    assert.equal(backends(), 'edge-a/10.0.0.5:8080')
    catalog.replace('endpointSlices', [sampleSlice({ endpoints: [atOld] })])
    assert.equal(backends(), 'edge-a/10.0.0.1:8080')
    const moving = startCatalog([atOld], 'disk')
    moving.pods(samplePod({ nodeName: 'edge-b', podIPs: ['10.0.1.1'] }))
    assert.equal(moving.backends(), '')
  })

  test('whose Pod has no address, because it starts or has ended, is none', () => {
    const { catalog, backends, pods } = startCatalog([atOld], 'source')
    pods(samplePod({ podIPs: [] }))
    assert.equal(backends(), '')
    catalog.put('pods', moved)
    assert.equal(backends(), 'edge-a/10.0.0.9:8080')
    catalog.remove('pods', 'shop/web-0')
    assert.equal(backends(), 'edge-a/10.0.0.1:8080')
  })

  test('keeps its address where the Pod has it, or none of its family', () => {
    for (const podIPs of [['10.0.0.7', '10.0.0.1'], ['fd00::1']]) {
      const { backends, pods } = startCatalog([atOld], 'source')
      pods(samplePod({ podIPs }))
      assert.equal(backends(), 'edge-a/10.0.0.1:8080')
    }
    const { backends, pods } = startCatalog([atOld], 'source')
    pods(samplePod({ podIPs: ['fd00::9', '10.0.0.9'] }))
    assert.equal(backends(), 'edge-a/10.0.0.9:8080')
  })

  test('is where a slice says that has changed since the Pod last spoke', () => {
    const { catalog, backends, pods } = startCatalog([atOld], 'source')
    pods(moved)
    const beside = sampleEndpoint('10.0.0.5')
    catalog.put('endpointSlices', sampleSlice({ endpoints: [atOld, beside] }))
    assert.equal(backends(), 'edge-a/10.0.0.5:8080,edge-a/10.0.0.9:8080')
    catalog.put('endpointSlices', sampleSlice({ endpoints: [sampleEndpoint('10.0.0.3', ref)] }))
    assert.equal(backends(), 'edge-a/10.0.0.3:8080')
    catalog.put('pods', samplePod({ podIPs: ['10.0.0.4'] }))
    assert.equal(backends(), 'edge-a/10.0.0.4:8080')
  })
})

test('endpoints of other nodes, and those without a Pod, are where the slices say', () => {
  const endpoints = [sampleEndpoint('10.0.0.1', { ...ref, nodeName: 'edge-b' }), sampleEndpoint('192.168.1.50')]
  const { backends, pods } = startCatalog(endpoints, 'disk')
  pods(moved)
  assert.equal(backends(), 'edge-a/192.168.1.50:8080,edge-b/10.0.0.1:8080')
})

test('a change of a Pod of the own node touches the Services that it serves, and no others', () => {
  const { catalog, pods } = startCatalog([atOld], 'source')
  const api = sampleService({ name: 'api', clusterIPs: ['10.96.0.2'] })
  catalog.put('services', api)
  catalog.put(
    'endpointSlices',
    sampleSlice({ name: 'api-1', serviceName: 'api', endpoints: [sampleEndpoint('10.0.0.5')] }),
  )
  pods(samplePod())
  const [port] = api.ports
  assert.ok(port)
  const before = [web, api].map((service) => catalog.current.backendsOf(service, port))
  catalog.put('pods', moved)
  const after = [web, api].map((service) => catalog.current.backendsOf(service, port))
  assert.deepEqual([after[0] === before[0], after[1] === before[1]], [false, true])
})
