import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { DestinationRule, EndpointSlice, Service } from '../../model/index.ts'
import { sampleCatalog, sampleService, sampleSlice } from '../samples.ts'
import { Destinations } from './destinations.ts'

const ring = { partitionCount: 100, replicationFactor: 10, load: 1.25 }

function createFixture(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  rules: readonly DestinationRule[] = [],
) {
  const pod = { namespace: 'shop', name: 'pod-10.0.0.2', labels: { v: '2' }, podIPs: ['10.0.0.2'], ready: true }
  const catalog = sampleCatalog(services, slices, { rules, pods: [pod] })
  const destinations = new Destinations({
    current: () => catalog.current,
    nodeName: 'edge',
    clusterDomain: 'cluster.local',
    ring,
  })
  const backendsOf = (destination: Parameters<Destinations['resolve']>[0]) => {
    const group = destinations.resolve(destination, 'shop', true)
    return 'problem' in group ? group.problem : [...group.balancer.attempts()].map(({ address }) => address).sort()
  }
  return { catalog, destinations, backendsOf }
}

const rule: DestinationRule = {
  namespace: 'shop',
  name: 'web',
  host: 'web',
  exportTo: [],
  trafficPolicy: {},
  portPolicies: [],
  subsets: [{ name: 'v2', labels: { v: '2' } }],
  ignored: [],
}

suite('a destination', () => {
  test('leads to the backends of its Service, as they are now', () => {
    const { catalog, backendsOf } = createFixture([sampleService('web')], [sampleSlice('web', '10.0.0.1', '10.0.0.2')])
    assert.deepEqual(backendsOf({ host: 'web', port: 80 }), ['10.0.0.1', '10.0.0.2'])
    catalog.put('endpointSlices', sampleSlice('web', '10.0.0.3'))
    assert.deepEqual(backendsOf({ host: 'web' }), ['10.0.0.3'])
  })

  test('may be a subset', () => {
    const { backendsOf } = createFixture([sampleService('web')], [sampleSlice('web', '10.0.0.1', '10.0.0.2')], [rule])
    assert.deepEqual(backendsOf({ host: 'web', subset: 'v2' }), ['10.0.0.2'])
    for (let times = 0; times < 2; times++) {
      assert.equal(
        backendsOf({ host: 'web', subset: 'v3' }),
        'no DestinationRule of Service shop/web has the subset v3',
      )
    }
  })

  test('that leads nowhere says why', () => {
    const two = sampleService('two', { ports: [1, 2].map((port) => ({ name: `p${port}`, protocol: 'tcp', port })) })
    const outside = sampleService('outside', { type: 'ExternalName', clusterIPs: [], externalName: 'example.org' })
    const { backendsOf } = createFixture([sampleService('web'), two, outside], [])
    assert.equal(backendsOf({ host: 'none' }), 'there is no Service shop/none')
    assert.equal(backendsOf({ host: 'www.example.org' }), 'www.example.org is no name of a Service in this cluster')
    assert.equal(backendsOf({ host: 'web', port: 81 }), 'Service shop/web has no TCP port 81')
    assert.equal(backendsOf({ host: 'two' }), 'Service shop/two has 2 TCP ports, so the destination must name one')
    assert.equal(backendsOf({ host: 'outside' }), 'Service shop/outside is an ExternalName and has no endpoints')
    assert.deepEqual(backendsOf({ host: 'web' }), [])
  })

  test('says which version of HTTP it speaks by its port', () => {
    const speaks = (port: Partial<Service['ports'][number]>) => {
      const ports = [{ name: 'x', protocol: 'tcp' as const, port: 80, ...port }]
      const group = createFixture([sampleService('web', { ports })], []).destinations.resolve(
        { host: 'web' },
        'shop',
        true,
      )
      return 'problem' in group ? group.problem : group.protocol
    }
    for (const name of ['grpc', 'grpc-api', 'http2', 'h2c-x']) assert.equal(speaks({ name }), 'http2', name)
    for (const name of ['http', 'grpcx', '']) assert.equal(speaks({ name }), 'http1', name)
    assert.equal(speaks({ appProtocol: 'kubernetes.io/h2c' }), 'http2')
    assert.equal(speaks({ name: 'grpc', appProtocol: 'http' }), 'http1')
  })

  test('is counted anew for each subset and for bytes, but once for all who ask for it', () => {
    const { destinations } = createFixture([sampleService('web')], [sampleSlice('web', '10.0.0.2')], [rule])
    const group = (subset: string | undefined, isHttp = true) => {
      return destinations.resolve({ host: 'web', ...(subset !== undefined && { subset }) }, 'shop', isHttp)
    }
    assert.equal(group(undefined), group(undefined))
    assert.notEqual(group(undefined), group('v2'))
    assert.notEqual(group(undefined), group(undefined, false))
    const ids = [group(undefined), group('v2')].map((found) => ('problem' in found ? '' : found.id))
    assert.deepEqual(ids, ['shop/web:http/tcp', 'shop/web:http/tcp/v2'])
  })

  test('is looked up where the VirtualService is, unless it says where', () => {
    const other = sampleService('web', { namespace: 'other', ports: [{ name: 'x', protocol: 'tcp', port: 1 }] })
    const { destinations } = createFixture([sampleService('web'), other], [])
    const serviceOf = (host: string, namespace: string) => {
      const group = destinations.resolve({ host }, namespace, true)
      return 'problem' in group ? group.problem : `${group.service.namespace}/${group.service.name}`
    }
    assert.equal(serviceOf('web', 'shop'), 'shop/web')
    assert.equal(serviceOf('web', 'other'), 'other/web')
    assert.equal(serviceOf('web.other', 'shop'), 'other/web')
    assert.equal(serviceOf('web', 'third'), 'there is no Service third/web')
  })

  test('takes TCP ports only, and follows a port that changes its mind', () => {
    const dns = sampleService('dns', {
      ports: [
        { name: 'dns', protocol: 'udp', port: 53 },
        { name: 'dns-tcp', protocol: 'tcp', port: 53 },
      ],
    })
    const { catalog, destinations } = createFixture([dns], [])
    const found = () => destinations.resolve({ host: 'dns' }, 'shop', true)
    const first = found()
    assert.equal('problem' in first || first.id, 'shop/dns:dns-tcp/tcp')
    assert.equal('problem' in first || first.protocol, 'http1')
    catalog.put('services', { ...dns, ports: [{ name: 'dns-tcp', protocol: 'tcp', port: 53, appProtocol: 'h2c' }] })
    const second = found()
    assert.equal('problem' in second || second.protocol, 'http2')
  })

  test('says for status why it leads nowhere, and nothing where it leads somewhere', () => {
    const { destinations } = createFixture([sampleService('web')], [])
    assert.equal(destinations.problemOf({ host: 'web' }, 'shop'), undefined)
    assert.match(destinations.problemOf({ host: 'web', port: 9 }, 'shop') ?? '', /has no TCP port 9/)
  })

  test('is forgotten when no rule leads to it any more, and what it held on to with it', () => {
    const { destinations, backendsOf } = createFixture([sampleService('web')], [sampleSlice('web', '10.0.0.2')], [rule])
    const [whole, subset] = [{ host: 'web' }, { host: 'web', subset: 'v2' }]
    const groupOf = (destination: Parameters<Destinations['resolve']>[0], isHttp = true) =>
      destinations.resolve(destination, 'shop', isHttp)
    const kept = [groupOf(whole), groupOf(whole, false)]
    const left = groupOf(subset)
    destinations.keepOnly([{ destination: { host: 'web' }, namespace: 'shop' }])
    assert.deepEqual([groupOf({ host: 'web' }), groupOf({ host: 'web' }, false)], kept)
    assert.notEqual(groupOf({ ...subset }), left)
    destinations.keepOnly([{ destination: whole, namespace: 'other' }])
    assert.equal(destinations.backendIds().size, 0)
    assert.deepEqual(backendsOf(whole), ['10.0.0.2'])
  })

  test('is forgotten with its Service', () => {
    const { catalog, destinations, backendsOf } = createFixture(
      [sampleService('web')],
      [sampleSlice('web', '10.0.0.1')],
    )
    backendsOf({ host: 'web' })
    assert.deepEqual([...destinations.backendIds()], ['edge/10.0.0.1:8080'])
    catalog.remove('services', 'shop/web')
    destinations.prune()
    assert.equal(destinations.backendIds().size, 0)
  })
})

test('a destination that is asked for again follows its Service', () => {
  const { catalog, backendsOf } = createFixture([sampleService('web')], [sampleSlice('web', '10.0.0.1')])
  const destination = { host: 'web', port: 80 }
  for (let times = 0; times < 2; times++) assert.deepEqual(backendsOf(destination), ['10.0.0.1'])
  catalog.put('endpointSlices', sampleSlice('web', '10.0.0.2'))
  for (let times = 0; times < 2; times++) assert.deepEqual(backendsOf(destination), ['10.0.0.2'])
  catalog.remove('services', 'shop/web')
  assert.match(String(backendsOf(destination)), /there is no Service shop\/web/)
  catalog.put('services', sampleService('web'))
  assert.deepEqual(backendsOf(destination), ['10.0.0.2'])
})
