import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Catalog, createCatalog, type Snapshot } from '../catalog/index.ts'
import {
  type Backend,
  type DestinationRule,
  type EndpointSlice,
  type Protocol,
  parseIpv4Network,
  type Service,
} from '../model/index.ts'
import { createServicePlanner, type PlannedServicePort, type PlanOptions } from './service-plan.ts'

const options: PlanOptions = {
  nodeName: 'edge-a1',
  serviceFilterMode: 'FilterIfLabelExists',
  interceptKubernetesService: false,
  balancing: 'random',
  syntheticNetwork: parseIpv4Network('169.254.64.0/19') ?? assert.fail(),
  excludedAddresses: new Set(),
}
const label = { 'service.edgemesh.kubeedge.io/service-proxy-name': '' }

function service(name: string, fields: Partial<Service> & { protocol?: Protocol } = {}): Service {
  const { protocol = 'tcp', ...rest } = fields
  return {
    namespace: 'shop',
    name,
    labels: {},
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.10'],
    headless: false,
    ports: [{ name: 'main', protocol, port: 80 }],
    publishNotReadyAddresses: false,
    ...rest,
  }
}

/** Endpoints as `node/address`; the port is 8080. An empty node is outside the cluster. */
function slices(serviceName: string, endpoints: readonly string[], protocol: Protocol = 'tcp'): EndpointSlice {
  return {
    namespace: 'shop',
    name: serviceName,
    serviceName,
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: 'main', protocol, port: 8080 }],
    endpoints: endpoints.map((text) => {
      const [node = '', address = ''] = text.split('/')
      const conditions = { addresses: [address], ready: true, serving: true, terminating: false }
      return node === '' ? conditions : { ...conditions, nodeName: node }
    }),
  }
}

function snapshotOf(services: readonly Service[], endpointSlices: readonly EndpointSlice[] = []): Snapshot {
  using catalog = createCatalog()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', endpointSlices)
  catalog.replace('services', services)
  return catalog.current
}

const planServicePorts = (snapshot: Snapshot, wanted: PlanOptions): readonly PlannedServicePort[] =>
  createServicePlanner()(snapshot, wanted).servicePorts

const idsOf = (snapshot: Snapshot, changed: Partial<PlanOptions> = {}) =>
  planServicePorts(snapshot, { ...options, ...changed }).map(({ id }) => id)

test('endpoints on this node are direct, all others go through the userspace proxy', () => {
  const endpoints = ['edge-a1/10.244.1.2', 'edge-b1/10.244.1.2', '/192.0.2.9']
  const [planned] = planServicePorts(snapshotOf([service('web')], [slices('web', endpoints)]), options)
  assert.deepEqual(planned?.destinations, [{ protocol: 'tcp', address: '10.96.0.10', port: 80 }])
  assert.deepEqual(planned?.direct, [{ nodeName: 'edge-a1', address: '10.244.1.2', port: 8080 }])
  assert.deepEqual(planned?.userspace, [
    { address: '192.0.2.9', port: 8080 },
    { nodeName: 'edge-b1', address: '10.244.1.2', port: 8080 },
  ])
})

test('the nearest endpoints come first where the node or a rule asks for it: here, then the LAN, then all', () => {
  const all = ['edge-a1/10.244.1.2', 'edge-a2/10.244.2.2', 'edge-b1/10.244.3.2']
  const near = new Set(['edge-a2'])
  const chosenOf = (endpoints: readonly string[], changed: Partial<PlanOptions>, rule?: DestinationRule) => {
    using catalog = createCatalog()
    catalog.replace('nodes', [])
    catalog.replace('endpointSlices', [slices('web', endpoints)])
    if (rule !== undefined) catalog.replace('destinationRules', [rule])
    catalog.replace('services', [service('web')])
    const [planned] = planServicePorts(catalog.current, { ...options, near, ...changed })
    return addressesOf([...(planned?.direct ?? []), ...(planned?.userspace ?? [])])
  }
  const nearest = { locality: 'nearest' } as const
  assert.deepEqual(chosenOf(all, nearest), ['10.244.1.2'])
  assert.deepEqual(chosenOf(all.slice(1), nearest), ['10.244.2.2'])
  assert.deepEqual(chosenOf(all.slice(2), nearest), ['10.244.3.2'])
  assert.equal(chosenOf(all, {}).length, 3)
  const ruled = (locality: 'nearest' | 'none') => ({ ...rules('round-robin'), trafficPolicy: { locality } })
  assert.deepEqual(chosenOf(all, {}, ruled('nearest')), ['10.244.1.2'])
  assert.equal(chosenOf(all, nearest, ruled('none')).length, 3)
  // What died here makes room for the next.
  const withdrawn = new Set(['edge-a1/10.244.1.2:8080'])
  assert.deepEqual(chosenOf(all, { ...nearest, withdrawn }), ['10.244.2.2'])
})

test('hints and the distribution of the Service come before nearness', () => {
  const endpoints = slices('web', ['edge-a1/10.244.1.2', 'edge-b1/10.244.3.2'])
  const hinted = { ...endpoints, endpoints: endpoints.endpoints.map((each) => ({ ...each, forNodes: ['edge-a1'] })) }
  const only = {
    ...hinted,
    endpoints: hinted.endpoints.map((each, at) => (at === 0 ? { ...each, forNodes: ['x'] } : each)),
  }
  const [planned] = planServicePorts(snapshotOf([service('web')], [only]), { ...options, locality: 'nearest' })
  assert.deepEqual([planned?.direct, addressesOf(planned?.userspace)], [[], ['10.244.3.2']])
})

const reached = { has: (endpoint: Backend) => endpoint.nodeName === 'edge-b1' }

test('endpoints on other nodes that are reached without the tunnel are direct as well', () => {
  const endpoints = ['edge-a1/10.244.1.2', 'edge-b1/10.244.1.2', 'edge-c1/10.244.1.2']
  for (const protocol of ['tcp', 'udp'] as const) {
    const snapshot = snapshotOf([service('web', { protocol })], [slices('web', endpoints, protocol)])
    const [planned] = planServicePorts(snapshot, { ...options, carriesDatagrams: true, reached })
    const nodesOf = (backends: readonly Backend[] = []) => backends.map(({ nodeName }) => nodeName)
    assert.deepEqual([nodesOf(planned?.direct), nodesOf(planned?.userspace)], [['edge-a1', 'edge-b1'], ['edge-c1']])
  }
})

test('for clients outside they are not: the answers would not come back through this node', () => {
  const ports = [{ name: 'main', protocol: 'tcp', port: 80, nodePort: 30080 }] as const
  const snapshot = snapshotOf(
    [service('web', { ports })],
    [slices('web', ['edge-a1/10.244.1.2', 'edge-b1/10.244.2.2'])],
  )
  const [planned] = planServicePorts(snapshot, { ...options, reached })
  assert.deepEqual(addressesOf(planned?.direct), ['10.244.1.2', '10.244.2.2'])
  const spread = planned?.external?.spread
  assert.notEqual(spread?.id, planned?.id)
  assert.deepEqual([addressesOf(spread?.direct), addressesOf(spread?.userspace)], [['10.244.1.2'], ['10.244.2.2']])
})

test('loopback, link-local, synthetic and multicast endpoints are never used', () => {
  const addresses = ['127.0.0.1', '169.254.169.254', '169.254.64.5', '224.0.0.1', '0.0.0.0', '255.255.255.255']
  const endpoints = addresses.flatMap((address) => [`edge-a1/${address}`, `edge-b1/${address}`])
  const [planned] = planServicePorts(snapshotOf([service('web')], [slices('web', endpoints)]), options)
  assert.deepEqual([planned?.direct, planned?.userspace], [[], []])
})

test('a ServicePort without endpoints is planned, so that it is refused', () => {
  assert.deepEqual(idsOf(snapshotOf([service('web')])), ['shop/web:main/tcp'])
})

test('where datagrams are carried UDP is planned like TCP', () => {
  const udp = service('udp', { protocol: 'udp' })
  const carried = { ...options, carriesDatagrams: true }
  const mixed = slices('udp', ['edge-a1/10.244.1.2', 'edge-b1/10.244.2.2'], 'udp')
  const [planned] = planServicePorts(snapshotOf([udp], [mixed]), carried)
  assert.deepEqual(
    planned?.direct.map(({ address }) => address),
    ['10.244.1.2'],
  )
  assert.deepEqual(
    planned?.userspace.map(({ address }) => address),
    ['10.244.2.2'],
  )
  const remote = snapshotOf([udp], [slices('udp', ['edge-b1/10.244.2.2'], 'udp')])
  assert.deepEqual(planServicePorts(remote, carried)[0]?.userspace.length, 1)
})

test('endpoints that do not accept are left out, unless none would be left', () => {
  const web = snapshotOf(
    [service('web')],
    [slices('web', ['edge-a1/10.244.1.2', 'edge-a1/10.244.1.3', 'edge-b1/10.244.2.2'])],
  )
  const planWithout = (...ids: readonly string[]) => {
    const [planned] = planServicePorts(web, { ...options, withdrawn: new Set(ids) })
    return [planned?.direct, planned?.userspace].map((part) => part?.map(({ address }) => address).join())
  }
  assert.deepEqual(planWithout('edge-a1/10.244.1.2:8080'), ['10.244.1.3', '10.244.2.2'])
  assert.deepEqual(planWithout('edge-a1/10.244.1.2:8080', 'edge-a1/10.244.1.3:8080'), ['', '10.244.2.2'])
  const all = ['edge-a1/10.244.1.2:8080', 'edge-a1/10.244.1.3:8080', 'edge-b1/10.244.2.2:8080']
  assert.deepEqual(planWithout(...all), ['10.244.1.2,10.244.1.3', '10.244.2.2'])
  assert.deepEqual(planWithout('edge-b1/10.244.1.2:8080'), ['10.244.1.2,10.244.1.3', '10.244.2.2'])
})

test('UDP is planned with the endpoints here, and left out when all are elsewhere', () => {
  const udp = service('udp', { protocol: 'udp' })
  const mixed = slices('udp', ['edge-a1/10.244.1.2', 'edge-b1/10.244.2.2'], 'udp')
  const [planned] = planServicePorts(snapshotOf([udp], [mixed]), options)
  assert.equal(planned?.direct.length, 1)
  assert.deepEqual(planned?.userspace, [])
  assert.deepEqual(idsOf(snapshotOf([udp], [slices('udp', ['edge-b1/10.244.2.2'], 'udp')])), [])
  assert.deepEqual(idsOf(snapshotOf([udp])), ['shop/udp:main/udp'])
})

test('headless Services, ExternalNames and Services without an IPv4 ClusterIP are left alone', () => {
  const services = [
    service('headless', { headless: true, clusterIPs: [] }),
    service('external', { type: 'ExternalName', clusterIPs: [] }),
    service('six', { clusterIPs: ['fd00::1'] }),
  ]
  assert.deepEqual(idsOf(snapshotOf(services)), [])
})

test('the filter label leaves Services out, or in, as the mode says', () => {
  const services = [service('marked', { labels: label }), service('plain', { clusterIPs: ['10.96.0.11'] })]
  assert.deepEqual(idsOf(snapshotOf(services)), ['shop/plain:main/tcp'])
  assert.deepEqual(idsOf(snapshotOf(services), { serviceFilterMode: 'FilterIfLabelDoesNotExists' }), [
    'shop/marked:main/tcp',
  ])
})

test('the Service of the API server is left alone unless asked for', () => {
  const api = snapshotOf([service('kubernetes', { namespace: 'default' })])
  assert.deepEqual(idsOf(api), [])
  assert.deepEqual(idsOf(api, { interceptKubernetesService: true }), ['default/kubernetes:main/tcp'])
})

test('excluded addresses are never intercepted', () => {
  const both = snapshotOf([service('web', { clusterIPs: ['10.96.0.10', '10.96.0.11'] })])
  const [planned] = planServicePorts(both, { ...options, excludedAddresses: new Set(['10.96.0.10']) })
  assert.deepEqual(
    planned?.destinations.map(({ address }) => address),
    ['10.96.0.11'],
  )
})

test('of two ServicePorts with one destination the first by id gets it', () => {
  const services = [service('b'), service('a'), service('c', { clusterIPs: ['10.96.0.10', '10.96.0.12'] })]
  const planned = planServicePorts(snapshotOf(services), options)
  assert.deepEqual(
    planned.map(({ id, destinations }) => [id, destinations[0]?.address]),
    [
      ['shop/a:main/tcp', '10.96.0.10'],
      ['shop/c:main/tcp', '10.96.0.12'],
    ],
  )
})

/** Waits for the snapshot that follows from a change. */
async function changed(catalog: Catalog, change: () => void): Promise<void> {
  const next = Promise.withResolvers<void>()
  const before = catalog.current.sequence
  using _subscription = catalog.subscribe(({ sequence }) => sequence > before && next.resolve())
  change()
  await next.promise
}

test('planning again costs only what changed: all else are the same objects', async () => {
  const plan = createServicePlanner()
  const services = [
    service('a'),
    service('b', { clusterIPs: ['10.96.0.11'] }),
    service('c', { clusterIPs: ['10.96.0.12'] }),
  ]
  using catalog = createCatalog()
  catalog.replace('nodes', [])
  catalog.replace(
    'endpointSlices',
    ['a', 'b', 'c'].map((name) => slices(name, ['edge-a1/10.244.1.2'])),
  )
  catalog.replace('services', services)
  const before = plan(catalog.current, options)
  await changed(catalog, () => catalog.put('endpointSlices', slices('b', ['edge-a1/10.244.1.3'])))
  const after = plan(catalog.current, options)
  assert.deepEqual(
    after.servicePorts.map((entry, at) => entry === before.servicePorts[at]),
    [true, false, true],
  )
  assert.equal(after.addresses, before.addresses)
  await changed(catalog, () => catalog.put('services', service('d', { clusterIPs: ['10.96.0.13'] })))
  const grown = plan(catalog.current, options)
  assert.deepEqual(
    grown.servicePorts.slice(0, 3).map((entry, at) => entry === after.servicePorts[at]),
    [true, true, true],
  )
  assert.deepEqual(grown.addresses, ['10.96.0.10', '10.96.0.11', '10.96.0.12', '10.96.0.13'])
})

test('other options plan everything anew', () => {
  const plan = createServicePlanner()
  const snapshot = snapshotOf([service('web')], [slices('web', ['edge-a1/10.244.1.2', 'edge-b1/10.244.2.2'])])
  assert.equal(plan(snapshot, options).servicePorts[0]?.direct[0]?.nodeName, 'edge-a1')
  assert.equal(plan(snapshot, { ...options, nodeName: 'edge-b1' }).servicePorts[0]?.direct[0]?.nodeName, 'edge-b1')
})

const rules = (kind: 'round-robin' | 'least-request'): DestinationRule => ({
  namespace: 'shop',
  name: 'web',
  host: 'web',
  exportTo: [],
  trafficPolicy: { loadBalancer: { kind } },
  portPolicies: [],
  subsets: [],
  ignored: [],
})

function planWith(wanted: Service, endpoints: readonly string[], rule?: DestinationRule): PlannedServicePort {
  using catalog = createCatalog()
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [slices(wanted.name, endpoints)])
  if (rule !== undefined) catalog.replace('destinationRules', [rule])
  catalog.replace('services', [wanted])
  return planServicePorts(catalog.current, options)[0] ?? assert.fail('not planned')
}

const both = ['edge-a1/10.244.1.2', 'edge-b1/10.244.2.2']
const addressesOf = (backends: readonly { readonly address: string }[] = []) => backends.map(({ address }) => address)

test('what rules of the kernel cannot do is done in userspace, for all endpoints', () => {
  const counted = planWith(service('web'), both, rules('least-request'))
  assert.deepEqual([counted.direct, addressesOf(counted.userspace)], [[], ['10.244.1.2', '10.244.2.2']])
  const turns = planWith(service('web'), both, rules('round-robin'))
  assert.deepEqual([addressesOf(turns.direct), addressesOf(turns.userspace)], [['10.244.1.2'], ['10.244.2.2']])
  assert.equal(turns.policy.balancingRule, 'shop/web')
  const alone = planWith(service('web'), ['edge-a1/10.244.1.2'], rules('least-request'))
  assert.deepEqual(addressesOf(alone.direct), ['10.244.1.2'])
})

test('internalTrafficPolicy Local keeps clients inside to endpoints here, and those outside to none in particular', () => {
  const ports = [{ name: 'main', protocol: 'tcp', port: 80, nodePort: 30080 }] as const
  const planned = planWith(service('web', { internalTrafficPolicy: 'Local', ports }), both)
  assert.deepEqual([addressesOf(planned.direct), planned.userspace], [['10.244.1.2'], []])
  assert.notEqual(planned.external?.spread.id, planned.id)
  assert.deepEqual(addressesOf(planned.external?.spread.userspace), ['10.244.2.2'])
})

test('external IPs, load balancers and node ports are planned with the same endpoints', () => {
  const planned = planWith(
    service('web', {
      type: 'LoadBalancer',
      externalIPs: ['203.0.113.5', 'fd00::5', '169.254.169.254'],
      loadBalancerIPs: ['203.0.113.6'],
      loadBalancerSourceRanges: ['192.168.0.0/16', ' 192.168.7.1/24', 'nonsense', 'fd00::/8', '10.1.2.3'],
      ports: [{ name: 'main', protocol: 'tcp', port: 80, nodePort: 30080 }],
    }),
    both,
  )
  const { external } = planned
  assert.deepEqual(addressesOf(external?.destinations), ['203.0.113.5', '203.0.113.6'])
  assert.equal(external?.nodePort, 30080)
  assert.equal(external?.spread.id, planned.id)
  assert.equal(external?.local, undefined)
  assert.deepEqual(external?.guard?.networks, ['192.168.0.0/16', '10.1.2.3/32'])
  assert.deepEqual(addressesOf(external?.guard?.destinations), ['203.0.113.6'])
})

test('externalTrafficPolicy Local sends who comes from outside to endpoints here', () => {
  const wanted = { externalIPs: ['203.0.113.5'], externalTrafficPolicy: 'Local' } as const
  assert.deepEqual(addressesOf(planWith(service('web', wanted), both).external?.local), ['10.244.1.2'])
  assert.deepEqual(planWith(service('web', wanted), ['edge-b1/10.244.2.2']).external?.local, [])
})

test('a node port that two ServicePorts claim belongs to the first', () => {
  const ports = [{ name: 'main', protocol: 'tcp', port: 80, nodePort: 30080 }] as const
  const services = [service('a', { ports }), service('b', { ports, clusterIPs: ['10.96.0.11'] })]
  const planned = planServicePorts(snapshotOf(services), options)
  assert.deepEqual(
    planned.map(({ external }) => external?.nodePort),
    [30080, undefined],
  )
})

test('a load balancer learns how many endpoints are here', () => {
  const ports = [
    { name: 'main', protocol: 'tcp', port: 80, nodePort: 30080 },
    { name: 'more', protocol: 'tcp', port: 81, nodePort: 30081 },
  ] as const
  const asked = { type: 'LoadBalancer', ports, healthCheckNodePort: 32000, externalTrafficPolicy: 'Local' } as const
  const checksOf = (wanted: Service, endpoints: readonly string[]) =>
    createServicePlanner()(snapshotOf([wanted], [slices('web', endpoints)]), options).healthChecks
  const check = { namespace: 'shop', name: 'web', port: 32000 }
  assert.deepEqual(checksOf(service('web', asked), both), [{ ...check, localEndpoints: 1 }])
  assert.deepEqual(checksOf(service('web', asked), ['edge-b1/10.244.2.2']), [{ ...check, localEndpoints: 0 }])
  assert.deepEqual(checksOf(service('web', { ...asked, externalTrafficPolicy: 'Cluster' }), both), [])
})

test('only the Services that changed are looked at again', async () => {
  const names = Array.from({ length: 40 }, (_, which) => `service-${which}`)
  const services = names.map((name, which) => service(name, { clusterIPs: [`10.96.1.${which}`] }))
  using catalog = createCatalog()
  catalog.replace('nodes', [])
  catalog.replace(
    'endpointSlices',
    names.map((name) => slices(name, ['edge-b1/10.244.2.2'])),
  )
  catalog.replace('services', services)
  const looked: string[] = []
  const watched = (snapshot: Snapshot): Snapshot => ({
    ...snapshot,
    slicesOf(one) {
      looked.push(one.name)
      return snapshot.slicesOf(one)
    },
  })
  const plan = createServicePlanner()
  plan(watched(catalog.current), options)
  assert.deepEqual(looked, names.toSorted())
  looked.length = 0
  plan(watched(catalog.current), options)
  assert.deepEqual(looked, [])
  await changed(catalog, () => catalog.put('endpointSlices', slices('service-7', ['edge-b1/10.244.2.3'])))
  plan(watched(catalog.current), options)
  assert.deepEqual(looked, ['service-7'])
})

test('what rules of the kernel cannot spread goes through the userspace proxy as a whole', () => {
  const endpoints = (count: number) => Array.from({ length: count }, (_, at) => `edge-a1/10.244.1.${at + 2}`)
  const directOf = (count: number, kernelLimits: PlanOptions['kernelLimits'], fields: Partial<Service> = {}) => {
    const snapshot = snapshotOf([service('web', fields)], [slices('web', endpoints(count))])
    const [planned] = planServicePorts(snapshot, { ...options, kernelLimits })
    assert.equal((planned?.direct.length ?? 0) + (planned?.userspace.length ?? 0), count)
    return planned?.direct.length
  }
  const all = { spreads: true, keepsClients: true, hashedSlots: 8 }
  const sticky = { clientIPAffinitySeconds: 30 }
  assert.equal(directOf(3, all), 3)
  assert.equal(directOf(3, { ...all, spreads: false }), 0)
  assert.equal(directOf(1, { ...all, spreads: false }), 1)
  assert.equal(directOf(3, all, sticky), 3)
  assert.equal(directOf(3, { ...all, keepsClients: false }, sticky), 0)
  assert.equal(directOf(3, { ...all, keepsClients: false }), 3)
})
