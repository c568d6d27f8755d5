import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backendIdOf, type EndpointSlice, type Service, type ServicePort } from '../model/index.ts'
import { createCatalog, type ObjectSink, type Schedule, type Snapshot } from './index.ts'
import { sampleEndpoint, sampleService, sampleSlice } from './samples.ts'

const http: ServicePort = { name: 'http', protocol: 'tcp', port: 80 }
const never: Schedule = () => ({ [Symbol.dispose]() {} })

function snapshotOf(services: readonly Service[], slices: readonly EndpointSlice[]): Snapshot {
  const catalog = createCatalog({ schedule: never })
  catalog.replace('services', services)
  catalog.replace('endpointSlices', slices)
  catalog.replace('nodes', [])
  return catalog.current
}

function backendIds(slices: readonly EndpointSlice[], service = sampleService(), port = http): string[] {
  return snapshotOf([service], slices).backendsOf(service, port).map(backendIdOf)
}

const readiness = (ready: boolean, serving = ready, terminating = false) => ({ ready, serving, terminating })

test('backends are the ready endpoints of all slices, sorted by node, address and port, each once', () => {
  const ids = backendIds([
    sampleSlice({ endpoints: [sampleEndpoint('10.0.0.3', { nodeName: 'b' }), sampleEndpoint('10.0.0.2')] }),
    sampleSlice({ name: 'web-2', endpoints: [sampleEndpoint('10.0.0.2'), sampleEndpoint('10.0.0.1')] }),
    sampleSlice({ name: 'web-3', endpoints: [sampleEndpoint('10.0.0.9', readiness(false))] }),
  ])
  assert.deepEqual(ids, ['edge-a/10.0.0.1:8080', 'edge-a/10.0.0.2:8080', 'b/10.0.0.3:8080'].sort())
})

test('one address on two nodes is two backends, because edge networks reuse address ranges', () => {
  const endpoints = [sampleEndpoint('172.17.0.2', { nodeName: 'b' }), sampleEndpoint('172.17.0.2', { nodeName: 'a' })]
  assert.deepEqual(backendIds([sampleSlice({ endpoints })]), ['a/172.17.0.2:8080', 'b/172.17.0.2:8080'])
})

test('when nothing is ready, endpoints that terminate but still serve are used', () => {
  const going = sampleEndpoint('10.0.0.2', readiness(false, true, true))
  const gone = sampleEndpoint('10.0.0.3', readiness(false, false, true))
  const starting = sampleEndpoint('10.0.0.4', readiness(false))
  assert.deepEqual(backendIds([sampleSlice({ endpoints: [going, gone, starting] })]), ['edge-a/10.0.0.2:8080'])
  const withReady = [going, sampleEndpoint('10.0.0.5')]
  assert.deepEqual(backendIds([sampleSlice({ endpoints: withReady })]), ['edge-a/10.0.0.5:8080'])
})

test('a Service that publishes not-ready addresses has all endpoints as backends', () => {
  const endpoints = [sampleEndpoint('10.0.0.2', readiness(false)), sampleEndpoint('10.0.0.3')]
  const service = sampleService({ publishNotReadyAddresses: true })
  assert.equal(backendIds([sampleSlice({ endpoints })], service).length, 2)
})

test('the port of an endpoint is found by the name and protocol of the ServicePort', () => {
  const ports = [
    { name: 'dns', protocol: 'udp', port: 5353 },
    { name: 'dns', protocol: 'tcp', port: 5354 },
    { name: '', protocol: 'tcp', port: 9 },
  ] as const
  const slices = [sampleSlice({ ports })]
  const idsOf = (name: string, protocol: 'tcp' | 'udp') =>
    backendIds(slices, sampleService(), { name, protocol, port: 53 })
  assert.deepEqual(idsOf('dns', 'udp'), ['edge-a/10.0.0.1:5353'])
  assert.deepEqual(idsOf('dns', 'tcp'), ['edge-a/10.0.0.1:5354'])
  assert.deepEqual(idsOf('', 'tcp'), ['edge-a/10.0.0.1:9'])
  assert.deepEqual(idsOf('other', 'tcp'), [])
})

test('an endpoint with several addresses counts once, and IPv6 slices not at all', () => {
  const several = sampleSlice({ endpoints: [{ ...sampleEndpoint('10.0.0.1'), addresses: ['10.0.0.1', '10.0.0.2'] }] })
  const six = sampleSlice({ name: 'web-6', addressType: 'IPv6', endpoints: [sampleEndpoint('fd00::1')] })
  const empty = sampleSlice({ name: 'web-0', endpoints: [{ ...sampleEndpoint('10.0.0.1'), addresses: [] }] })
  assert.deepEqual(backendIds([several, six, empty]), ['edge-a/10.0.0.1:8080'])
})

test('a backend carries what is known of its pod and of who should use it', () => {
  const placement = { hostname: 'web-0', zone: 'north', forZones: ['north', 'south'], forNodes: ['edge-b'] }
  const endpoint = sampleEndpoint('10.0.0.1', { ...placement, pod: { namespace: 'shop', name: 'web-0-x' } })
  const service = sampleService()
  const snapshot = snapshotOf([service], [sampleSlice({ endpoints: [endpoint] })])
  const pod = { podName: 'web-0-x', podNamespace: 'shop' }
  const expected = { nodeName: 'edge-a', address: '10.0.0.1', port: 8080, ...placement, ...pod }
  assert.deepEqual(snapshot.backendsOf(service, http), [expected])
  assert.equal(snapshot.backendsOf(service, http), snapshot.backendsOf(service, http))
})

test('slices made from Endpoints count only while no real slice names the Service', () => {
  const service = sampleService()
  const old = sampleSlice({ name: 'web:0:IPv4', fromEndpoints: true, endpoints: [sampleEndpoint('10.0.0.7')] })
  const namesOf = (slices: readonly EndpointSlice[]) =>
    snapshotOf([service], slices)
      .slicesOf(service)
      .map(({ name }) => name)
  assert.deepEqual(namesOf([old]), ['web:0:IPv4'])
  assert.deepEqual(namesOf([old, sampleSlice()]), ['web-1'])
  assert.deepEqual(namesOf([old, sampleSlice({ serviceName: 'other' })]), ['web:0:IPv4'])
})

test('a slice that moves to another Service leaves the first', () => {
  const catalog: ObjectSink & { readonly current: Snapshot } = createCatalog({
    schedule: (_delay, callback) => {
      callback()
      return { [Symbol.dispose]() {} }
    },
  })
  const [web, other] = [sampleService(), sampleService({ name: 'other', clusterIPs: ['10.96.0.2'] })]
  catalog.replace('services', [web, other])
  catalog.replace('endpointSlices', [sampleSlice()])
  catalog.replace('nodes', [])
  const target = { protocol: 'tcp', nodeName: 'edge-a', address: '10.0.0.1', port: 8080 } as const
  assert.equal(catalog.current.servicePortOfTarget(target), 'shop/web:http/tcp')
  catalog.put('endpointSlices', sampleSlice({ serviceName: 'other' }))
  assert.equal(catalog.current.servicePortOfTarget(target), 'shop/other:http/tcp')
  assert.deepEqual(catalog.current.slicesOf(web), [])
  catalog.remove('endpointSlices', 'shop/web-1')
  assert.equal(catalog.current.servicePortOfTarget(target), undefined)
})

test('a target is known by node, protocol, address and port, ready or not', () => {
  const endpoints = [sampleEndpoint('10.0.0.1', readiness(false)), sampleEndpoint('10.0.0.2', { nodeName: 'edge-b' })]
  const snapshot = snapshotOf([sampleService()], [sampleSlice({ endpoints })])
  const target = { protocol: 'tcp', nodeName: 'edge-a', address: '10.0.0.1', port: 8080 } as const
  assert.equal(snapshot.servicePortOfTarget(target), 'shop/web:http/tcp')
  assert.equal(snapshot.servicePortOfTarget({ ...target, nodeName: 'edge-b' }), undefined)
  assert.equal(snapshot.servicePortOfTarget({ ...target, nodeName: undefined }), undefined)
  assert.equal(snapshot.servicePortOfTarget({ ...target, protocol: 'udp' }), undefined)
  assert.equal(snapshot.servicePortOfTarget({ ...target, port: 80 }), undefined)
  assert.equal(snapshot.servicePortOfTarget({ ...target, address: '10.0.0.3' }), undefined)
})

test('a target needs a Service with that port; endpoints alone grant nothing', () => {
  const target = { protocol: 'tcp', nodeName: 'edge-a', address: '10.0.0.1', port: 8080 } as const
  assert.equal(snapshotOf([], [sampleSlice()]).servicePortOfTarget(target), undefined)
  const otherPort = sampleService({ ports: [{ name: 'admin', protocol: 'tcp', port: 80 }] })
  assert.equal(snapshotOf([otherPort], [sampleSlice()]).servicePortOfTarget(target), undefined)
})

test('two Services with the same pods share targets; when one goes the other keeps them', () => {
  const twin = sampleService({ name: 'web-headless', clusterIPs: [], headless: true })
  const twinSlice = sampleSlice({ name: 'twin-1', serviceName: 'web-headless' })
  const target = { protocol: 'tcp', nodeName: 'edge-a', address: '10.0.0.1', port: 8080 } as const
  const both = snapshotOf([sampleService(), twin], [sampleSlice(), twinSlice])
  assert.equal(both.servicePortOfTarget(target), 'shop/web-headless:http/tcp')
  assert.equal(
    snapshotOf([sampleService()], [sampleSlice(), twinSlice]).servicePortOfTarget(target),
    'shop/web:http/tcp',
  )
})

test('a ClusterIP leads to its Service; of two that claim it the first by key wins on every node', () => {
  const [a, b] = [sampleService({ name: 'a' }), sampleService({ name: 'b', clusterIPs: ['10.96.0.1', 'fd00::1'] })]
  for (const services of [
    [a, b],
    [b, a],
  ]) {
    const snapshot = snapshotOf(services, [])
    assert.equal(snapshot.serviceByClusterIP('10.96.0.1'), a)
    assert.equal(snapshot.serviceByClusterIP('fd00::1'), b)
    assert.equal(snapshot.serviceByClusterIP('10.96.0.2'), undefined)
  }
})

test('one change among thousands of Services shares everything else with the snapshot before', () => {
  const services = Array.from({ length: 2000 }, (_, index) => sampleService({ name: `s${index}`, clusterIPs: [] }))
  const slices = services.map(({ name }) => sampleSlice({ name: `${name}-1`, serviceName: name }))
  const publish: (() => void)[] = []
  const catalog = createCatalog({
    schedule: (_delay, callback) => {
      publish[0] = callback
      return { [Symbol.dispose]() {} }
    },
  })
  catalog.replace('services', services)
  catalog.replace('endpointSlices', slices)
  catalog.replace('nodes', [])
  const before = catalog.current
  const [first, second] = services
  assert.ok(first && second)
  const known = before.backendsOf(first, http)
  catalog.put(
    'endpointSlices',
    sampleSlice({ name: 's1-1', serviceName: 's1', endpoints: [sampleEndpoint('10.0.0.8')] }),
  )
  publish[0]?.()
  assert.equal(catalog.current.sequence, 2)
  assert.equal(catalog.current.services, before.services)
  assert.equal(catalog.current.backendsOf(first, http), known)
  assert.deepEqual(catalog.current.backendsOf(second, http).map(backendIdOf), ['edge-a/10.0.0.8:8080'])
  assert.deepEqual(before.backendsOf(second, http).map(backendIdOf), ['edge-a/10.0.0.1:8080'])
})
