import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseEndpointSlice } from './endpoint-slice.ts'
import { parseEndpoints } from './endpoints.ts'
import { canonicalIpOf, ObjectParseError } from './field.ts'
import { parseNode } from './node.ts'
import { parseService } from './service.ts'

const metadata = { name: 'web', namespace: 'shop' }

function serviceWith(spec: object): unknown {
  return { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: '10.96.0.1', ...spec } }
}

function sliceWith(fields: object): unknown {
  const labels = { 'kubernetes.io/service-name': 'web' }
  return { metadata: { ...metadata, name: 'web-1', labels }, addressType: 'IPv4', ...fields }
}

function refusal(parse: () => unknown): ObjectParseError {
  try {
    parse()
  } catch (error) {
    assert.ok(error instanceof ObjectParseError)
    return error
  }
  return assert.fail('nothing was refused')
}

test('a Service gets the defaults of the API', () => {
  assert.deepEqual(
    parseService({ metadata: { name: 'web' }, spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] } }),
    {
      namespace: 'default',
      name: 'web',
      labels: {},
      type: 'ClusterIP',
      clusterIPs: ['10.96.0.1'],
      headless: false,
      ports: [{ name: '', protocol: 'tcp', port: 80 }],
      publishNotReadyAddresses: false,
    },
  )
})

test('a Service keeps every field in use and none that is not', () => {
  const service = parseService({
    metadata: { ...metadata, labels: { app: 'web' }, annotations: { big: 'x' }, uid: 'u', generation: 3 },
    spec: {
      type: 'NodePort',
      clusterIP: '10.96.0.1',
      clusterIPs: ['10.96.0.1', 'FD00:0::1'],
      selector: { app: 'web' },
      publishNotReadyAddresses: true,
      sessionAffinity: 'ClientIP',
      sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
      ports: [
        { name: 'http', port: 80, targetPort: 'web', nodePort: 30080, appProtocol: 'http' },
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'sigtran', port: 2905, protocol: 'SCTP' },
      ],
    },
    status: { loadBalancer: {} },
  })
  assert.deepEqual(service, {
    ...metadata,
    labels: { app: 'web' },
    type: 'NodePort',
    clusterIPs: ['10.96.0.1', 'fd00::1'],
    headless: false,
    ports: [
      { name: 'http', protocol: 'tcp', port: 80, nodePort: 30080, appProtocol: 'http' },
      { name: 'dns', protocol: 'udp', port: 53 },
    ],
    publishNotReadyAddresses: true,
    clientIPAffinitySeconds: 600,
  })
})

test('headless and external Services have no ClusterIP, and affinity lasts three hours when not said', () => {
  const headless = parseService(serviceWith({ clusterIP: 'None', clusterIPs: ['None'], sessionAffinity: 'ClientIP' }))
  assert.deepEqual([headless.headless, headless.clusterIPs, headless.clientIPAffinitySeconds], [true, [], 10_800])
  const external = parseService(serviceWith({ type: 'ExternalName', clusterIP: '', externalName: 'Example.org.' }))
  assert.deepEqual([external.headless, external.clusterIPs, external.externalName], [false, [], 'example.org'])
})

test('null means absent, as in answers of the API', () => {
  const service = parseService({
    metadata: { name: 'a', labels: null },
    spec: { ports: null, clusterIP: 'None', type: null },
  })
  assert.deepEqual([service.ports, service.labels, service.type], [[], {}, 'ClusterIP'])
})

test('an invalid Service is refused by field and value', () => {
  const cases: [unknown, string][] = [
    [{ metadata: {}, spec: {} }, 'metadata.name: is missing, found nothing'],
    [{ metadata: { name: 'Web_1' } }, 'metadata.name: must be a DNS name of lower-case letters, digits, "-" and "."'],
    [serviceWith({ clusterIP: '10.96.0.300' }), 'spec.clusterIP: must be an IP address, found "10.96.0.300"'],
    [serviceWith({ clusterIPs: ['x'] }), 'spec.clusterIPs[0]: must be an IP address, found "x"'],
    [serviceWith({ ports: [{}] }), 'spec.ports[0].port: is missing, found nothing'],
    [serviceWith({ ports: [{ port: 80 }, { port: 0 }] }), 'spec.ports[1].port: must be a whole number from 1 to 65535'],
    [
      serviceWith({ ports: [{ port: '80' }] }),
      'spec.ports[0].port: must be a whole number from 1 to 65535, found "80"',
    ],
    [serviceWith({ ports: [{ port: 80, protocol: 'tcp' }] }), 'spec.ports[0].protocol: must be TCP, UDP or SCTP'],
    [serviceWith({ ports: { port: 80 } }), 'spec.ports: must be a list, found {"port":80}'],
    [serviceWith({ type: 'Cluster' }), 'spec.type: must be one of ClusterIP, NodePort, LoadBalancer, ExternalName'],
    [serviceWith({ type: 'ExternalName' }), 'spec.externalName: is missing'],
    [serviceWith({ sessionAffinity: 'Cookie' }), 'spec.sessionAffinity: must be None or ClientIP, found "Cookie"'],
    [serviceWith({ publishNotReadyAddresses: 'yes' }), 'spec.publishNotReadyAddresses: must be true or false'],
    [{ metadata: { ...metadata, labels: { a: 1 } } }, 'metadata.labels.a: must be text, found 1'],
    [{ metadata, spec: [] }, 'spec: must be a map, found []'],
    ['text', 'object: must be a map, found "text"'],
  ]
  for (const [value, message] of cases) {
    const error = refusal(() => parseService(value))
    assert.ok(error.message.startsWith(message), `${error.message} should start with ${message}`)
  }
  const { path, value } = refusal(() => parseService(serviceWith({ ports: [{ port: 70_000 }] })))
  assert.deepEqual([path, value], [['spec', 'ports', 0, 'port'], 70_000])
})

test('an EndpointSlice resolves its conditions to booleans', () => {
  const endpointsOf = (conditions: unknown) =>
    parseEndpointSlice(sliceWith({ endpoints: [{ addresses: ['10.0.0.1'], conditions }] }))?.endpoints[0]
  const conditionsOf = (conditions: unknown) => {
    const { ready, serving, terminating } = endpointsOf(conditions) ?? {}
    return [ready, serving, terminating]
  }
  assert.deepEqual(conditionsOf(undefined), [true, true, false])
  assert.deepEqual(conditionsOf({ ready: null }), [true, true, false])
  assert.deepEqual(conditionsOf({ ready: false }), [false, false, false])
  assert.deepEqual(conditionsOf({ ready: false, serving: true, terminating: true }), [false, true, true])
})

test('an EndpointSlice of v1 keeps ports, placement and pod', () => {
  const slice = parseEndpointSlice(
    sliceWith({
      ports: [
        { name: 'http', port: 8080, protocol: 'TCP' },
        { name: 'any' },
        { port: 1, protocol: 'SCTP' },
        { port: 9 },
      ],
      endpoints: [
        {
          addresses: ['10.0.0.1'],
          nodeName: 'edge-a',
          zone: 'z1',
          hostname: 'web-0',
          targetRef: { kind: 'Pod', namespace: 'shop', name: 'web-0' },
        },
        { addresses: ['10.0.0.2'], targetRef: { kind: 'Node', name: 'x' } },
      ],
    }),
  )
  const conditions = { ready: true, serving: true, terminating: false }
  assert.deepEqual(slice, {
    namespace: 'shop',
    name: 'web-1',
    serviceName: 'web',
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [
      { name: 'http', protocol: 'tcp', port: 8080 },
      { name: '', protocol: 'tcp', port: 9 },
    ],
    endpoints: [
      {
        addresses: ['10.0.0.1'],
        ...conditions,
        nodeName: 'edge-a',
        hostname: 'web-0',
        zone: 'z1',
        pod: { namespace: 'shop', name: 'web-0' },
      },
      { addresses: ['10.0.0.2'], ...conditions },
    ],
  })
})

test('an EndpointSlice of v1beta1 names its node and zone in the topology', () => {
  const topology = { 'kubernetes.io/hostname': 'edge-b', 'topology.kubernetes.io/zone': 'z2' }
  const slice = parseEndpointSlice(sliceWith({ ports: null, endpoints: [{ addresses: ['10.0.0.1'], topology }] }))
  assert.deepEqual([slice?.endpoints[0]?.nodeName, slice?.endpoints[0]?.zone, slice?.ports], ['edge-b', 'z2', []])
})

test('slices of no Service and slices of host names are none of ours', () => {
  assert.equal(parseEndpointSlice({ metadata, addressType: 'IPv4' }), undefined)
  assert.equal(parseEndpointSlice(sliceWith({ addressType: 'FQDN', endpoints: [{ addresses: ['a.b'] }] })), undefined)
})

test('addresses of a slice are canonical and of its family', () => {
  const six = { addressType: 'IPv6', endpoints: [{ addresses: ['FD00::0:1'] }] }
  assert.deepEqual(parseEndpointSlice(sliceWith(six))?.endpoints[0]?.addresses, ['fd00::1'])
  const mixed = sliceWith({ endpoints: [{ addresses: ['10.0.0.1'] }, { addresses: ['fd00::1'] }] })
  assert.match(
    refusal(() => parseEndpointSlice(mixed)).message,
    /^endpoints\[1\]\.addresses\[0\]: must be an IPv4 address/,
  )
  assert.match(refusal(() => parseEndpointSlice(sliceWith({ addressType: 'IP' }))).message, /^addressType: /)
})

test('Endpoints become one slice per subset and family, with not-ready addresses kept as such', () => {
  const slices = parseEndpoints({
    metadata,
    subsets: [
      {
        addresses: [{ ip: '10.0.0.1', nodeName: 'edge-a', targetRef: { kind: 'Pod', namespace: 'shop', name: 'p' } }],
        notReadyAddresses: [{ ip: '10.0.0.2', hostname: 'web-1' }],
        ports: [{ name: 'http', port: 8080 }],
      },
      { addresses: [{ ip: '10.0.0.3' }, { ip: 'fd00::3' }], ports: [{ port: 9, protocol: 'UDP' }] },
    ],
  })
  assert.deepEqual(
    slices.map(({ name, serviceName, fromEndpoints, addressType }) => [name, serviceName, fromEndpoints, addressType]),
    [
      ['web:0:IPv4', 'web', true, 'IPv4'],
      ['web:1:IPv4', 'web', true, 'IPv4'],
      ['web:1:IPv6', 'web', true, 'IPv6'],
    ],
  )
  assert.deepEqual(slices[0]?.endpoints, [
    {
      addresses: ['10.0.0.1'],
      ready: true,
      serving: true,
      terminating: false,
      nodeName: 'edge-a',
      pod: { namespace: 'shop', name: 'p' },
    },
    { addresses: ['10.0.0.2'], ready: false, serving: false, terminating: false, hostname: 'web-1' },
  ])
  assert.deepEqual(slices[1]?.ports, [{ name: '', protocol: 'udp', port: 9 }])
})

test('Endpoints without subsets, as leader elections make them, are no slices', () => {
  assert.deepEqual(parseEndpoints({ metadata }), [])
  assert.match(
    refusal(() => parseEndpoints({ metadata, subsets: [{ addresses: [{}] }] })).message,
    /^subsets\[0\]\.addresses\[0\]\.ip/,
  )
})

test('a Node keeps its internal addresses and pod ranges', () => {
  const node = parseNode({
    metadata: { name: 'edge-a', labels: { zone: 'a' } },
    spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24', 'fd00::/64'] },
    status: {
      addresses: [
        { type: 'InternalIP', address: '192.168.1.5' },
        { type: 'Hostname', address: 'edge-a' },
      ],
    },
  })
  const podCIDRs = ['10.244.1.0/24', 'fd00::/64']
  assert.deepEqual(node, { name: 'edge-a', labels: { zone: 'a' }, internalIPs: ['192.168.1.5'], podCIDRs })
})

test('equal addresses become equal text, and other text no address', () => {
  const cases: [string, string | undefined][] = [
    ['10.0.0.1', '10.0.0.1'],
    ['010.0.0.1', undefined],
    ['1.2.3', undefined],
    ['0x7f.1', undefined],
    ['FD00:0:0::0001', 'fd00::1'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
    ['fe80::1%eth0', undefined],
    [':', undefined],
    ['::1]', undefined],
    ['', undefined],
  ]
  for (const [text, canonical] of cases) assert.equal(canonicalIpOf(text), canonical, text)
})

test('endpoints outside the cluster are reached through the node that an annotation names', () => {
  const annotations = { 'edgemesh.kubeedge.io/via-node': 'edge-b' }
  const outside = { addresses: ['192.168.1.50'] }
  const inside = { addresses: ['10.0.0.1'], nodeName: 'edge-a' }
  const labels = { 'kubernetes.io/service-name': 'plc' }
  const slice = { metadata: { ...metadata, labels, annotations }, addressType: 'IPv4', endpoints: [outside, inside] }
  assert.deepEqual(
    parseEndpointSlice(slice)?.endpoints.map(({ nodeName }) => nodeName),
    ['edge-b', 'edge-a'],
  )
  const subsets = [{ addresses: [{ ip: '192.168.1.50' }], notReadyAddresses: [{ ip: '10.0.0.1', nodeName: 'edge-a' }] }]
  assert.deepEqual(
    parseEndpoints({ metadata: { ...metadata, annotations }, subsets })[0]?.endpoints.map(({ nodeName }) => nodeName),
    ['edge-b', 'edge-a'],
  )
  const wrong = { metadata: { ...metadata, annotations: { 'edgemesh.kubeedge.io/via-node': 'Edge B' } }, subsets }
  assert.match(
    refusal(() => parseEndpoints(wrong)).message,
    /^metadata.annotations.edgemesh.kubeedge.io\/via-node: must/,
  )
})
