import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterface } from '../linux/index.ts'
import { type Backend, backendIdOf, type Protocol } from '../model/index.ts'
import { silentLogger } from '../observability/index.ts'
import { createDirectEvidence, directEndpointsAt, directEndpointsOf, hasLostInterface } from './direct-evidence.ts'
import type { PlannedServicePort } from './service-plan.ts'

const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
const here: Backend = { nodeName: 'edge-a', address: '10.244.1.2', port: 8080 }
const neighbour: Backend = { nodeName: 'edge-b', address: '10.244.2.2', port: 8080 }

function planned(direct: readonly Backend[], userspace: readonly Backend[] = [], protocol: Protocol = 'tcp') {
  const destinations = [{ protocol, address: '10.96.0.1', port: 80 }]
  const entry: PlannedServicePort = { id: 'shop/web', destinations, direct, userspace, reserve: [], policy }
  return entry
}

const idsOf = (endpoints: readonly Backend[]) => endpoints.map(backendIdOf)

test('an end that refused is the endpoint of all Services that send there by translation', () => {
  const plan = [planned([here, neighbour]), planned([here])]
  const ends = [
    { address: '10.244.1.2', port: 8080 },
    { address: '10.244.2.2', port: 8080 },
  ]
  assert.deepEqual(idsOf(directEndpointsAt(plan, ends)), ['edge-a/10.244.1.2:8080', 'edge-b/10.244.2.2:8080'])
})

test('other ports, UDP, and endpoints that userspace dials are none', () => {
  assert.deepEqual(directEndpointsAt([planned([here])], [{ address: '10.244.1.2', port: 8081 }]), [])
  assert.deepEqual(directEndpointsAt([planned([here])], []), [])
  const end = { address: here.address, port: here.port }
  assert.deepEqual(directEndpointsAt([planned([], [here]), planned([here], [], 'udp')], [end]), [])
})

test('what is on this node is told apart from what is reached elsewhere', () => {
  assert.deepEqual(idsOf(directEndpointsOf([planned([here, neighbour])], 'edge-a')), ['edge-a/10.244.1.2:8080'])
})

test('the endpoints that are seen to refuse are suspected where they are, and those here when a pod may be gone', async () => {
  const suspected: string[] = []
  const suspecting = (name: string) => ({
    suspect: (endpoint: Backend) => void suspected.push(`${name} ${backendIdOf(endpoint)}`),
  })
  let ends = [here, neighbour].map(({ address, port }) => ({ address, port }))
  const sets = {
    endsIn: async (set: string) => (set === 'refusing' ? ends : []),
    addressesIn: async () => new Set<string>(),
  }
  const remote = { ...suspecting('remote'), contacted: () => {} }
  const evidence = createDirectEvidence(sets, 'edge-a', { local: suspecting('local'), remote, logger: silentLogger })
  const { signal } = new AbortController()
  const pod = { name: 'veth1', isUp: true, isLoopback: false, bridgeNetfilter: false, addresses: [] }
  const view = { interfaces: [pod], defaultRouteInterfaces: [], defaultGateways: [], routes: [] }
  const served = { plan: { servicePorts: [planned([here, neighbour])] }, others: [] }
  await evidence.look(view, undefined, signal)
  assert.deepEqual(suspected, [])
  await evidence.look(view, served, signal)
  assert.deepEqual(suspected.splice(0), ['local edge-a/10.244.1.2:8080', 'remote edge-b/10.244.2.2:8080'])
  ends = []
  await evidence.look(view, served, signal)
  assert.deepEqual(suspected, [])
  await evidence.look({ ...view, interfaces: [] }, served, signal)
  assert.deepEqual(suspected, ['local edge-a/10.244.1.2:8080'])
})

test('where packets were sent to is told, also before anything is served', async () => {
  const told: string[][] = []
  const ignoring = { suspect: () => {} }
  const remote = { ...ignoring, contacted: (addresses: ReadonlySet<string>) => void told.push([...addresses]) }
  const addressesIn = async (set: string) => new Set(set === 'contacted' ? ['10.244.2.2'] : [])
  const evidence = createDirectEvidence({ endsIn: async () => [], addressesIn }, 'edge-a', {
    local: ignoring,
    remote,
    logger: silentLogger,
  })
  const view = { interfaces: [], defaultRouteInterfaces: [], defaultGateways: [], routes: [] }
  await evidence.look(view, undefined, new AbortController().signal)
  assert.deepEqual(told, [['10.244.2.2']])
})

test('an interface that is gone or down may have taken a pod with it', () => {
  const link = (name: string, isUp = true): NetworkInterface => {
    return { name, isUp, isLoopback: false, bridgeNetfilter: false, addresses: [] }
  }
  const view = (...interfaces: readonly NetworkInterface[]) => ({
    interfaces,
    defaultRouteInterfaces: [],
    defaultGateways: [],
    routes: [],
  })
  const before = view(link('eth0'), link('veth1'), link('veth2', false))
  assert.equal(hasLostInterface(before, view(link('eth0'), link('veth1'), link('veth3'))), false)
  assert.equal(hasLostInterface(before, view(link('eth0'))), true)
  assert.equal(hasLostInterface(before, view(link('eth0'), link('veth1', false))), true)
  assert.equal(hasLostInterface(undefined, before), false)
})

test('sets that cannot be read keep nobody from looking at interfaces, and are told of once', async () => {
  const told: string[] = []
  const suspected: string[] = []
  const logger = { ...silentLogger, warn: (_fields: object, message: string) => void told.push(message) }
  const sets = { endsIn: () => Promise.reject(new Error('no answer')), addressesIn: async () => new Set<string>() }
  const local = { suspect: (endpoint: Backend) => void suspected.push(backendIdOf(endpoint)) }
  const evidence = createDirectEvidence(sets, 'edge-a', { local, remote: { ...local, contacted() {} }, logger })
  const pod = { name: 'veth1', isUp: true, isLoopback: false, bridgeNetfilter: false, addresses: [] }
  const view = { interfaces: [pod], defaultRouteInterfaces: [], defaultGateways: [], routes: [] }
  const served = { plan: { servicePorts: [planned([here])] }, others: [] }
  const { signal } = new AbortController()
  await evidence.look(view, served, signal)
  await evidence.look({ ...view, interfaces: [] }, served, signal)
  assert.deepEqual(suspected, ['edge-a/10.244.1.2:8080'])
  assert.equal(told.length, 1)
})
