import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type {
  ClusterNode,
  DestinationRule,
  Endpoint,
  EndpointPort,
  EndpointSlice,
  Gateway,
  Pod,
  Service,
  ServicePort,
  VirtualService,
} from '../model/index.ts'
import {
  type ObjectLists,
  objectKinds,
  parseStoredObjects,
  renderStoredObjects,
  type StoredObjects,
  StoredObjectsError,
  storedObjectsVersion,
} from './index.ts'
import { sampleNode, samplePod, sampleRule, sampleService, sampleSlice } from './samples.ts'

// Every field, so that a new one in the model stops the compiler here: does an older file still mean the same?
const servicePort: Required<ServicePort> = {
  name: 'http',
  protocol: 'tcp',
  port: 80,
  nodePort: 30080,
  appProtocol: 'http',
}
const service: Required<Service> = {
  namespace: 'shop',
  name: 'web',
  labels: { app: 'web', 'kubernetes.io/name': 'Ladenstraße 🛒' },
  type: 'LoadBalancer',
  clusterIPs: ['10.96.0.1', 'fd00::1'],
  headless: false,
  externalName: 'web.example.org',
  ports: [servicePort],
  publishNotReadyAddresses: true,
  clientIPAffinitySeconds: 10800,
  externalIPs: ['192.0.2.80'],
  loadBalancerIPs: ['192.0.2.81'],
  loadBalancerSourceRanges: ['198.51.100.0/24'],
  externalTrafficPolicy: 'Local',
  internalTrafficPolicy: 'Local',
  healthCheckNodePort: 32000,
  trafficDistribution: 'PreferSameZone',
}
const endpointPort: Required<EndpointPort> = { name: 'http', protocol: 'udp', port: 8080 }
const endpoint: Required<Endpoint> = {
  addresses: ['10.0.0.1'],
  ready: true,
  serving: true,
  terminating: false,
  nodeName: 'edge-a',
  hostname: 'web-0',
  zone: 'north',
  forZones: ['north'],
  forNodes: ['edge-a'],
  pod: { namespace: 'shop', name: 'web-0' },
}
const slice: Required<EndpointSlice> = {
  namespace: 'shop',
  name: 'web-1',
  serviceName: 'web',
  fromEndpoints: true,
  addressType: 'IPv4',
  ports: [endpointPort],
  endpoints: [endpoint],
}
const node: Required<ClusterNode> = {
  name: 'edge-a',
  labels: { zone: 'north' },
  internalIPs: ['192.0.2.1'],
  podCIDRs: ['10.244.1.0/24'],
}
const rule: Required<DestinationRule> = {
  namespace: 'shop',
  name: 'web',
  host: 'web',
  exportTo: ['.'],
  trafficPolicy: {
    loadBalancer: {
      kind: 'consistent-hash',
      key: { kind: 'http-cookie', name: 'session', path: '/', ttlMs: 0 },
      ring: { kind: 'maglev', tableSize: 65537 },
    },
    outlierDetection: { consecutiveErrors: 5, baseEjectionMs: 30_000, maxEjectionPercent: 10 },
    maxConnections: 100,
    connectTimeoutMs: 1000,
  },
  portPolicies: [{ port: 80, trafficPolicy: { loadBalancer: { kind: 'random' } } }],
  subsets: [{ name: 'v1', labels: { version: 'v1' }, trafficPolicy: { loadBalancer: { kind: 'round-robin' } } }],
  ignored: ['spec.trafficPolicy.tls: is not supported'],
}
const pod: Required<Pod> = {
  namespace: 'shop',
  name: 'web-0',
  labels: { version: 'v1' },
  nodeName: 'edge-a',
  podIPs: ['10.0.0.1', 'fd00::1'],
  ready: true,
}
const gateway: Required<Gateway> = {
  namespace: 'shop',
  name: 'front',
  createdAt: '2026-01-01T00:00:00Z',
  reported: { isInForce: false, message: 'spec.y: is missing' },
  selector: { kubeedge: 'edgemesh-gateway' },
  servers: [
    {
      port: 80,
      protocol: 'http',
      bind: '192.0.2.7',
      hosts: [{ namespace: '*', host: '*' }],
      tls: { mode: 'redirect' },
    },
  ],
  ignored: ['spec.x: has no effect here'],
  problems: ['spec.y: is missing'],
}
const changes = { set: { a: '1' }, add: {}, remove: ['b'] }
const virtualService: Required<VirtualService> = {
  namespace: 'shop',
  name: 'web',
  createdAt: '2026-01-01T00:00:00Z',
  reported: { isInForce: false, message: 'spec.y: is missing' },
  hosts: ['*'],
  gateways: ['front'],
  exportTo: ['*'],
  http: [
    {
      name: '#0',
      match: [
        {
          uri: { kind: 'prefix', value: '/' },
          ignoreUriCase: true,
          headers: [],
          withoutHeaders: [],
          queryParams: [],
          gateways: [],
        },
      ],
      action: { kind: 'broken', reason: 'spec.y: is missing' },
      headers: { request: changes, response: changes },
    },
  ],
  tls: [{ match: [{ sniHosts: ['a'], gateways: [] }], destinations: [{ host: 'web', weight: 1 }] }],
  tcp: [{ destinations: [{ host: 'web', weight: 1 }] }],
  ignored: ['spec.x: has no effect here'],
  problems: ['spec.y: is missing'],
}
const objects: ObjectLists = {
  services: [service],
  endpointSlices: [slice],
  nodes: [node],
  destinationRules: [rule],
  pods: [pod],
  gateways: [gateway],
  virtualServices: [virtualService],
}
const documentOf = (changes: object) => JSON.stringify({ version: storedObjectsVersion, savedAt: 1, ...changes })

const textOf = (stored: StoredObjects): string => [...renderStoredObjects(stored)].join('')

suite('stored objects', () => {
  test('come in many small pieces where there are many of them, and are whole again together', () => {
    const services = Array.from({ length: 1_234 }, (_, which) => ({ ...service, name: `service-${which}` }))
    const stored = { savedAt: 7, objects: { services, nodes: [] } }
    const pieces = [...renderStoredObjects(stored)]
    assert.ok(Math.max(...pieces.map(({ length }) => length)) < 0.1 * pieces.join('').length)
    assert.deepEqual(parseStoredObjects(pieces.join('')).objects.services, services)
  })

  test('come back with every field they had', () => {
    const stored = { savedAt: 1_700_000_000_000, objects }
    assert.deepEqual(parseStoredObjects(textOf(stored)), stored)
  })

  test('come back without the fields they did not have', () => {
    const plain = {
      services: [sampleService()],
      endpointSlices: [sampleSlice()],
      nodes: [sampleNode('edge-a')],
      destinationRules: [sampleRule()],
      pods: [samplePod()],
      gateways: [],
      virtualServices: [],
    }
    assert.deepEqual(parseStoredObjects(textOf({ savedAt: 0, objects: plain })).objects, plain)
  })

  test('of an older program lack kinds that came later, and of a newer one may have more', () => {
    const kinds = objectKinds.filter((kind) => kind !== 'secrets')
    const empty = Object.fromEntries(kinds.map((kind) => [kind, []]))
    assert.deepEqual(parseStoredObjects(documentOf({})).objects, empty)
    assert.deepEqual(parseStoredObjects(documentOf({ walruses: [{ name: 'w' }] })).objects, empty)
  })

  test('of another version are refused by name', () => {
    for (const version of [0, 2, '1', undefined, null]) {
      const text = JSON.stringify({ version, savedAt: 1 })
      assert.throws(() => parseStoredObjects(text), StoredObjectsError)
    }
    assert.throws(() => parseStoredObjects('{"version":2}'), /version 2, only 1 is known/)
  })

  test('that are no such document are refused', () => {
    for (const text of ['', 'null', '[]', '7', '{', documentOf({ savedAt: null }), documentOf({ savedAt: '1' })]) {
      assert.throws(() => parseStoredObjects(text), StoredObjectsError, text)
    }
  })

  test('of a newer program lose the rules whose policies this one does not know, and no others', () => {
    const { portPolicies, subsets, ...rest } = rule
    const unknown = { loadBalancer: { kind: 'fastest' } }
    const hash = (changes: object) => ({ loadBalancer: { ...rule.trafficPolicy.loadBalancer, ...changes } })
    const strange = [
      { ...rule, trafficPolicy: unknown },
      { ...rule, trafficPolicy: { loadBalancer: 'random' } },
      { ...rule, trafficPolicy: hash({ key: { kind: 'weather' } }) },
      { ...rule, trafficPolicy: hash({ ring: undefined }) },
      { ...rest, subsets, portPolicies: [{ port: 80, trafficPolicy: unknown }] },
      { ...rest, portPolicies, subsets: [{ name: 'v1', labels: {}, trafficPolicy: unknown }] },
      { ...rest, portPolicies, subsets: [{ name: 'v1', labels: {}, trafficPolicy: 7 }] },
    ]
    const { destinationRules } = parseStoredObjects(documentOf({ destinationRules: [...strange, rule] })).objects
    assert.deepEqual(destinationRules, [rule])
  })

  test('of a newer program lose the VirtualServices whose actions this one does not know', () => {
    const [http] = virtualService.http
    const strange = { ...virtualService, http: [{ ...http, action: { kind: 'dream' } }] }
    const { virtualServices } = parseStoredObjects(documentOf({ virtualServices: [strange, virtualService] })).objects
    assert.deepEqual(virtualServices, [virtualService])
  })

  test('are refused when any field that the model requires is missing or of another type', () => {
    let cases = 0
    for (const [kind, [object]] of Object.entries(objects)) {
      for (const broken of brokenVariantsOf(object)) {
        assert.throws(() => parseStoredObjects(documentOf({ [kind]: [broken] })), new RegExp(kind))
        cases += 1
      }
      assert.throws(() => parseStoredObjects(documentOf({ [kind]: { 0: object } })), new RegExp(kind))
    }
    assert.ok(cases > 60, `${cases} cases`)
  })
})

const optional = [
  'nodePort',
  'appProtocol',
  'externalName',
  'clientIPAffinitySeconds',
  'externalIPs',
  'loadBalancerIPs',
  'loadBalancerSourceRanges',
  'externalTrafficPolicy',
  'internalTrafficPolicy',
  'healthCheckNodePort',
  'trafficDistribution',
  'forZones',
  'forNodes',
  'nodeName',
  'hostname',
  'zone',
  'pod',
  'trafficPolicy',
  'createdAt',
  'reported',
  'bind',
  'tls',
  'match',
  'reason',
]

/** Maps of text to text, of whose entries none is required. */
const records = ['labels', 'selector', 'set', 'add']

/** The object without each of its required fields, and with each replaced by something else, to its leaves. */
function* brokenVariantsOf(value: unknown): Generator<unknown> {
  if (typeof value !== 'object' || value === null) return
  if (Array.isArray(value)) {
    for (const broken of [7, ...brokenVariantsOf(value[0])]) yield [broken]
    return
  }
  for (const [field, inner] of Object.entries(value)) {
    if (optional.includes(field)) continue
    const { [field]: _, ...rest } = value as Record<string, unknown>
    yield rest
    for (const wrong of [null, wrongFor(inner)]) yield { ...rest, [field]: wrong }
    if (!records.includes(field)) for (const broken of brokenVariantsOf(inner)) yield { ...rest, [field]: broken }
  }
}

function wrongFor(value: unknown): unknown {
  return typeof value === 'string' ? 7 : 'text'
}
