import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog, type Snapshot } from '../catalog/index.ts'
import { type Backend, type EndpointSlice, parseIpv4Network, type Service } from '../model/index.ts'
import { createFarEndpointPlanner, createFarServicePorts, farEndpointIdOf } from './endpoint-plan.ts'
import { everythingReached } from './reach/reached-endpoints.ts'
import type { PlanOptions } from './service-plan.ts'

const options: PlanOptions = {
  nodeName: 'edge-a1',
  serviceFilterMode: 'FilterIfLabelExists',
  interceptKubernetesService: false,
  balancing: 'random',
  carriesDatagrams: false,
  syntheticNetwork: parseIpv4Network('169.254.64.0/19') ?? assert.fail(),
  excludedAddresses: new Set(),
}
const db: Service = {
  namespace: 'shop',
  name: 'db',
  labels: {},
  type: 'ClusterIP',
  clusterIPs: [],
  headless: true,
  ports: [],
  publishNotReadyAddresses: false,
}
const ports = [
  { name: 'sql', protocol: 'tcp', port: 5432 },
  { name: 'metrics', protocol: 'tcp', port: 9187 },
  { name: 'gossip', protocol: 'udp', port: 7946 },
] as const

function slice(name: string, ...endpoints: readonly (readonly [node: string, address: string])[]): EndpointSlice {
  return {
    namespace: 'shop',
    name,
    serviceName: 'db',
    fromEndpoints: false,
    addressType: 'IPv4',
    ports,
    endpoints: endpoints.map(([nodeName, address]) => {
      return { addresses: [address], ready: true, serving: true, terminating: false, nodeName }
    }),
  }
}

function snapshotOf(services: readonly Service[], endpointSlices: readonly EndpointSlice[]): Snapshot {
  using catalog = createCatalog()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', endpointSlices)
  catalog.replace('services', services)
  return catalog.current
}

test('endpoints of headless Services on other nodes are found, each by node and address', () => {
  const far = slice('db', ['edge-a1', '10.244.1.2'], ['edge-b1', '10.244.1.2'], ['edge-c1', '127.0.0.1'])
  const found = createFarEndpointPlanner()(snapshotOf([db], [far, slice('db-2', ['edge-d1', '10.244.1.2'])]), options)
  assert.deepEqual(
    found.map(({ id, nodeName }) => [id, nodeName]),
    [
      ['endpoint shop/db edge-b1/10.244.1.2', 'edge-b1'],
      ['endpoint shop/db edge-d1/10.244.1.2', 'edge-d1'],
    ],
  )
  assert.deepEqual(
    found[0]?.ports.map(({ id, port }) => [id, port]),
    [
      ['endpoint shop/db edge-b1/10.244.1.2', 5432],
      ['endpoint shop/db edge-b1/10.244.1.2 tcp/9187', 9187],
    ],
  )
})

test('Services with a ClusterIP, and those that are filtered out, have none', () => {
  const far = [slice('db', ['edge-b1', '10.244.1.2'])]
  const plan = createFarEndpointPlanner()
  assert.deepEqual(plan(snapshotOf([{ ...db, headless: false, clusterIPs: ['10.96.0.10'] }], far), options), [])
  const labels = { 'service.edgemesh.kubeedge.io/service-proxy-name': '' }
  assert.deepEqual(plan(snapshotOf([{ ...db, labels }], far), options), [])
})

test('the same snapshot gives the same list', () => {
  const plan = createFarEndpointPlanner()
  const snapshot = snapshotOf([db], [slice('db', ['edge-b1', '10.244.1.2'])])
  assert.equal(plan(snapshot, options), plan(snapshot, options))
})

test('only an endpoint on another node has an address of its own here', () => {
  const at = (nodeName: string | undefined, address = '10.244.1.2') =>
    farEndpointIdOf(db, { nodeName, address }, options)
  assert.equal(at('edge-b1'), 'endpoint shop/db edge-b1/10.244.1.2')
  assert.deepEqual([at('edge-a1'), at(undefined), at('edge-b1', '169.254.64.9')], [undefined, undefined, undefined])
})

test('each port leads to that very endpoint, at the address of the endpoint', () => {
  const servicePorts = createFarServicePorts()
  const found = createFarEndpointPlanner()(snapshotOf([db], [slice('db', ['edge-b1', '10.244.1.2'])]), options)
  const synthetic = new Map([[found[0]?.id ?? '', { address: '169.254.90.1' }]])
  const planned = servicePorts(found, synthetic, undefined)
  assert.deepEqual(
    planned.map(({ destinations, userspace }) => [destinations, userspace]),
    [5432, 9187].map((port) => [
      [{ protocol: 'tcp', address: '169.254.90.1', port }],
      [{ nodeName: 'edge-b1', address: '10.244.1.2', port }],
    ]),
  )
  assert.equal(servicePorts(found, synthetic, undefined)[0], planned[0])
  assert.deepEqual(servicePorts(found, new Map(), undefined), [])
})

test('an endpoint that is reached without the tunnel keeps its address, and what stays the same is the same object', () => {
  const servicePorts = createFarServicePorts()
  const found = createFarEndpointPlanner()(snapshotOf([db], [slice('db', ['edge-b1', '10.244.1.2'])]), options)
  const synthetic = new Map([[found[0]?.id ?? '', { address: '169.254.90.1' }]])
  const before = servicePorts(found, synthetic, undefined)
  const sql = { has: (endpoint: Backend) => endpoint.nodeName === 'edge-b1' && endpoint.port === 5432 }
  const planned = servicePorts(found, synthetic, sql)
  assert.deepEqual(
    planned.map(({ destinations, direct, userspace }) => [destinations[0]?.address, direct.length, userspace.length]),
    [
      ['169.254.90.1', 1, 0],
      ['169.254.90.1', 0, 1],
    ],
  )
  assert.notEqual(planned, before)
  assert.equal(servicePorts(found, synthetic, { ...sql })[0], planned[0])
})

test('where all addresses are routable clients are told the real one', () => {
  const place = { nodeName: 'edge-b1', address: '10.244.1.2' }
  assert.equal(farEndpointIdOf(db, place, { ...options, reached: everythingReached }), undefined)
})

test('ports of UDP are carried where datagrams are', () => {
  const snapshot = snapshotOf([db], [slice('db', ['edge-b1', '10.244.1.2'])])
  const portsOf = (carriesDatagrams: boolean) =>
    createFarEndpointPlanner()(snapshot, { ...options, carriesDatagrams })[0]?.ports.map(({ port }) => port)
  assert.deepEqual(portsOf(false), [5432, 9187])
  assert.deepEqual(portsOf(true), [5432, 9187, 7946])
})
