import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { parseEndpointSlice } from './endpoint-slice.ts'
import { parseEndpoints } from './endpoints.ts'
import { parseService } from './service.ts'

const metadata = { name: 'web', namespace: 'shop' }

/** What a Service becomes beyond the fields that every Service has, and what is noted about it. */
function trafficOf(spec: object, rest: { readonly status?: object; readonly annotations?: object } = {}) {
  const notes: string[] = []
  const { annotations = {}, status = {} } = rest
  const object = { metadata: { ...metadata, annotations }, spec: { clusterIP: '10.96.0.1', ...spec }, status }
  const service = parseService(object, ({ message }) => notes.push(message))
  const { namespace, name, labels, type, clusterIPs, headless, ports, publishNotReadyAddresses, ...traffic } = service
  assert.deepEqual([namespace, name, clusterIPs], ['shop', 'web', ['10.96.0.1']])
  return { traffic, notes }
}

const ingress = (...entries: object[]) => ({ status: { loadBalancer: { ingress: entries } } })

suite('the traffic of a Service', () => {
  test('is told with canonical addresses and networks, each once', () => {
    const spec = {
      type: 'LoadBalancer',
      externalIPs: ['192.0.2.80', 'FD00:0::80', '192.0.2.80'],
      loadBalancerSourceRanges: ['198.51.100.7/24', ' 203.0.113.0/24 ', 'FD00::/8', '0.0.0.0/0'],
      externalTrafficPolicy: 'Local',
      internalTrafficPolicy: 'Local',
      healthCheckNodePort: 32_000,
      trafficDistribution: 'PreferSameNode',
    }
    assert.deepEqual(trafficOf(spec, ingress({ ip: '192.0.2.81' })), {
      traffic: {
        externalIPs: ['192.0.2.80', 'fd00::80'],
        loadBalancerIPs: ['192.0.2.81'],
        loadBalancerSourceRanges: ['198.51.100.0/24', '203.0.113.0/24', 'fd00::/8', '0.0.0.0/0'],
        externalTrafficPolicy: 'Local',
        internalTrafficPolicy: 'Local',
        healthCheckNodePort: 32_000,
        trafficDistribution: 'PreferSameNode',
      },
      notes: [],
    })
  })

  test('says nothing where the defaults of the API hold', () => {
    const spec = {
      externalIPs: [],
      externalTrafficPolicy: 'Cluster',
      internalTrafficPolicy: 'Cluster',
      healthCheckNodePort: 0,
      loadBalancerSourceRanges: null,
      trafficDistribution: null,
    }
    assert.deepEqual(trafficOf(spec, { status: { loadBalancer: {} } }), { traffic: {}, notes: [] })
    assert.deepEqual(trafficOf({ healthCheckNodePort: 32_000 }), { traffic: {}, notes: [] })
  })

  test('by a load balancer arrives with its address only in the mode VIP, which is the default', () => {
    const entries = [
      { ip: '192.0.2.1', ipMode: 'VIP' },
      { ip: '192.0.2.2', ipMode: 'Proxy' },
      { hostname: 'lb.example.org' },
      { ip: '192.0.2.3' },
      { ip: '192.0.2.4', ipMode: 'Odd' },
      { ip: 'nowhere' },
    ]
    assert.deepEqual(trafficOf({}, ingress(...entries)), {
      traffic: { loadBalancerIPs: ['192.0.2.1', '192.0.2.3'] },
      notes: [
        'status.loadBalancer.ingress[4].ipMode: must be VIP or Proxy, found "Odd"',
        'status.loadBalancer.ingress[5].ip: must be an IP address, found "nowhere"',
      ],
    })
  })

  test('by a load balancer is not let in from everywhere because its source ranges cannot be read', () => {
    const [lb, range] = [ingress({ ip: '192.0.2.1' }), '203.0.113.0/24']
    assert.deepEqual(trafficOf({ loadBalancerSourceRanges: [] }, lb).traffic, { loadBalancerIPs: ['192.0.2.1'] })
    for (const loadBalancerSourceRanges of [['10.0.0.0/33'], ['fd00::/129'], ['10.0.0.0'], [7], 'all', {}]) {
      const { traffic, notes } = trafficOf({ loadBalancerSourceRanges }, lb)
      assert.deepEqual([traffic, notes.length], [{}, 1])
    }
    const { traffic, notes } = trafficOf({ loadBalancerSourceRanges: ['x', range] }, lb)
    assert.deepEqual(traffic, { loadBalancerIPs: ['192.0.2.1'], loadBalancerSourceRanges: [range] })
    assert.deepEqual(notes, ['spec.loadBalancerSourceRanges[0]: must be a network, such as 192.0.2.0/24, found "x"'])
  })

  test('prefers the own zone under each of the names that this had', () => {
    const mode = 'service.kubernetes.io/topology-mode'
    const hints = 'service.kubernetes.io/topology-aware-hints'
    const cases: [object, object, string | undefined][] = [
      [{ trafficDistribution: 'PreferClose' }, {}, 'PreferSameZone'],
      [{ trafficDistribution: 'PreferSameZone' }, {}, 'PreferSameZone'],
      [{}, { [mode]: 'Auto' }, 'PreferSameZone'],
      [{}, { [hints]: 'auto' }, 'PreferSameZone'],
      [{ trafficDistribution: 'PreferSameNode' }, { [mode]: 'Auto' }, 'PreferSameZone'],
      [{ trafficDistribution: 'PreferSameNode' }, { [mode]: 'Disabled' }, 'PreferSameNode'],
      [{}, { [mode]: 'example.org/custom', [hints]: 'auto' }, undefined],
    ]
    for (const [spec, annotations, expected] of cases) {
      const { traffic, notes } = trafficOf(spec, { annotations })
      assert.deepEqual([traffic.trafficDistribution, notes], [expected, []])
    }
  })

  test('that is odd in one field loses that field and not the Service', () => {
    const { traffic, notes } = trafficOf(
      {
        externalIPs: ['192.0.2.300', '192.0.2.9', 5],
        externalTrafficPolicy: 'Nearby',
        internalTrafficPolicy: 1,
        healthCheckNodePort: 'x',
        trafficDistribution: 'constructor',
      },
      { status: { loadBalancer: [] }, annotations: { 'service.kubernetes.io/topology-mode': 1 } },
    )
    assert.deepEqual(traffic, { externalIPs: ['192.0.2.9'] })
    assert.deepEqual(notes.map((note) => note.slice(0, note.indexOf(':'))).sort(), [
      'metadata.annotations.service.kubernetes.io/topology-mode',
      'spec.externalIPs[0]',
      'spec.externalIPs[2]',
      'spec.externalTrafficPolicy',
      'spec.healthCheckNodePort',
      'spec.internalTrafficPolicy',
      'spec.trafficDistribution',
      'status.loadBalancer',
    ])
  })

  test('of an ExternalName is nobody’s matter', () => {
    const spec = { type: 'ExternalName', externalName: 'example.org', externalIPs: ['192.0.2.1'] }
    assert.equal(parseService({ metadata, spec }).externalIPs, undefined)
  })
})

suite('an endpoint', () => {
  const labels = { 'kubernetes.io/service-name': 'web' }
  const endpointsOf = (...endpoints: object[]) => {
    const notes: string[] = []
    const value = { metadata: { ...metadata, labels }, addressType: 'IPv4', endpoints }
    return { slice: parseEndpointSlice(value, ({ message }) => notes.push(message)), notes }
  }
  const placed = (fields: object) => ({ addresses: ['10.0.0.1'], nodeName: 'edge-a', ...fields })

  test('keeps the zones and nodes that should use it', () => {
    const hints = { forZones: [{ name: 'z1' }, { name: 'z2' }], forNodes: [{ name: 'edge-b' }] }
    const { slice, notes } = endpointsOf(placed({ hints }), placed({ hints: { forZones: null } }), placed({}))
    assert.deepEqual(
      slice?.endpoints.map(({ forZones, forNodes }) => [forZones, forNodes]),
      [
        [['z1', 'z2'], ['edge-b']],
        [undefined, undefined],
        [undefined, undefined],
      ],
    )
    assert.deepEqual(notes, [])
  })

  test('that is odd in what is optional stays, without that', () => {
    const odd = { zone: 4, hostname: 'Web_0', targetRef: { kind: 'Pod', name: 7 }, hints: { forZones: [{ name: 1 }] } }
    const { slice, notes } = endpointsOf(placed(odd), placed({ hints: 'all' }))
    const plain = { addresses: ['10.0.0.1'], ready: true, serving: true, terminating: false, nodeName: 'edge-a' }
    assert.deepEqual(slice?.endpoints, [plain, plain])
    assert.equal(notes.length, 6)
    assert.equal(
      notes[1],
      'endpoints[0].hostname: must be a DNS name of lower-case letters, digits, "-" and ".", found "Web_0"',
    )
  })

  test('of a Pod whose namespace is not said is in the namespace of its slice', () => {
    const targetRef = { kind: 'Pod', name: 'web-0' }
    const pod = { namespace: 'shop', name: 'web-0' }
    assert.deepEqual(endpointsOf(placed({ targetRef })).slice?.endpoints[0]?.pod, pod)
    const subsets = [{ addresses: [{ ip: '10.0.0.1', targetRef }] }]
    assert.deepEqual(parseEndpoints({ metadata, subsets })[0]?.endpoints[0]?.pod, pod)
  })
})
