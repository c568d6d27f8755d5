import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog, type Snapshot } from '../../catalog/index.ts'
import type { NetworkView } from '../../linux/index.ts'
import type { ClusterNode, EndpointSlice } from '../../model/index.ts'
import { createMemoryStreamPair, DialError, type Dialer } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { proposeTerms } from './agreement.ts'
import { createReachability, type ReachPeers } from './reachability.ts'
import { everythingReached } from './reached-endpoints.ts'

const { signal } = new AbortController()
const direct: Dialer = { dial: () => Promise.reject(new DialError('unreachable', 'nothing is there')) }
const facts = { foreignInterfaces: ['eth0'], switchedNetworks: [], hasDefaultRoute: true, nodeAddress: undefined }

function viewWith(...routes: readonly string[]): NetworkView {
  const up = { isUp: true, isLoopback: false, bridgeNetfilter: false }
  return {
    interfaces: [
      { ...up, name: 'eth0', addresses: [{ address: '192.168.1.11', prefixLength: 24 }] },
      { ...up, name: 'cni0', addresses: [{ address: '10.244.1.1', prefixLength: 24 }] },
    ],
    defaultRouteInterfaces: ['eth0'],
    defaultGateways: [],
    routes: routes.map((network) => ({ network, leadsSomewhere: true })),
  }
}

function snapshotOf(
  endpoints: readonly (readonly [node: string, address: string])[],
  nodes: ClusterNode[] = [],
): Snapshot {
  using catalog = createCatalog()
  const slice: EndpointSlice = {
    namespace: 'shop',
    name: 'web-1',
    serviceName: 'web',
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: '', protocol: 'tcp', port: 8080 }],
    endpoints: endpoints.map(([nodeName, address]) => {
      return { addresses: [address], ready: true, serving: true, terminating: false, nodeName }
    }),
  }
  catalog.replace('nodes', nodes)
  catalog.replace('services', [])
  catalog.replace('endpointSlices', [slice])
  return catalog.current
}

const spread = snapshotOf([
  ['edge-a', '10.244.1.2'],
  ['edge-b', '10.244.2.2'],
  ['edge-b', '10.244.2.3'],
  ['edge-c', '10.244.3.2'],
])

function setUp(mode: 'auto' | 'direct' | 'tunnel', peers?: Partial<ReachPeers>) {
  let changed = Promise.withResolvers<void>()
  const known: ReachPeers = {
    openFlow: () => Promise.reject(new Error('no path')),
    direct: () => new Set(),
    near: () => new Set(),
    lanAddresses: () => new Map(),
    ...peers,
  }
  const reachability = createReachability({
    mode,
    nodeName: 'edge-a',
    deviceName: 'edgemesh0',
    peers: peers === undefined ? undefined : known,
    direct,
    isUsable: (address) => !address.startsWith('169.254.'),
    seesUse: true,
    onChange: () => {
      changed.resolve()
      changed = Promise.withResolvers()
    },
    logger: silentLogger,
  })
  return reachability
}

test('direct and tunnel ask nobody', async () => {
  const calls: string[] = []
  const peers = {
    openFlow(nodeName: string) {
      calls.push(nodeName)
      return Promise.reject(new Error('no path'))
    },
    direct: () => new Set(['edge-b']),
  }
  await using everywhere = setUp('direct', peers)
  await using nowhere = setUp('tunnel', peers)
  for (const each of [everywhere, nowhere]) each.follow(spread, viewWith('10.244.0.0/16'), facts)
  assert.deepEqual([everywhere.reached, nowhere.reached], [everythingReached, undefined])
  assert.deepEqual(everywhere.status(), [
    { node: 'edge-b', direct: 2, tunnelled: 0 },
    { node: 'edge-c', direct: 1, tunnelled: 0 },
  ])
  const reason = 'edgeProxy.reachability is tunnel'
  assert.deepEqual(nowhere.status(), [
    { node: 'edge-b', direct: 0, tunnelled: 2, reason },
    { node: 'edge-c', direct: 0, tunnelled: 1, reason },
  ])
  assert.deepEqual(calls, [])
})

test('status says of each node why its endpoints are reached through the tunnel', async () => {
  await using reachability = setUp('auto', {})
  reachability.follow(spread, viewWith('10.244.2.0/24'), facts)
  const reasons = new Map(reachability.status().map(({ node, reason }) => [node, reason]))
  assert.equal(reasons.get('edge-c'), 'no route leads to 10.244.3.2 but the default one')
  assert.match(reasons.get('edge-b') ?? '', /not asked yet|no direct path/)
  await using alone = setUp('auto')
  alone.follow(spread, viewWith('10.244.2.0/24'), facts)
  assert.match(alone.status()[0]?.reason ?? '', /edgeTunnel is off/)
})

test('only nodes to which the tunnel has a direct path are asked', async () => {
  const asked = Promise.withResolvers<string>()
  await using reachability = setUp('auto', {
    openFlow(nodeName) {
      asked.resolve(nodeName)
      return Promise.reject(new Error('it is stopping'))
    },
    direct: () => new Set(['edge-c']),
  })
  reachability.follow(spread, viewWith('10.244.0.0/16'), facts)
  assert.equal(await asked.promise, 'edge-c')
})

test('a node that cannot ask in the name of its pods asks nobody', async () => {
  await using reachability = setUp('auto', { direct: () => new Set(['edge-b']) })
  const routed = snapshotOf([
    ['edge-a', '10.250.0.9'],
    ['edge-b', '10.244.2.2'],
  ])
  reachability.follow(routed, viewWith('10.244.2.0/24'), facts)
  await new Promise(setImmediate)
  assert.match(reachability.status()[0]?.reason ?? '', /cannot ask in the name of its pods, such as 10\.250\.0\.9/)
})

test('from the first peer that brings a key on, questions at addresses of endpoints here are taken', async () => {
  await using reachability = setUp('auto', {})
  await reachability.startAnswering('127.0.0.1')
  const asked = () => reachability.asked
  reachability.follow(spread, viewWith(), facts)
  assert.equal(asked(), undefined)
  const [ours, theirs] = createMemoryStreamPair()
  reachability.accept(theirs)
  await proposeTerms(ours, signal)
  const first = asked()
  assert.deepEqual(first?.addresses, ['10.244.1.2'])
  assert.equal(first?.socket.address, '127.0.0.1')
  reachability.follow(snapshotOf([['edge-a', '10.244.1.2']]), viewWith(), facts)
  assert.equal(asked(), first)
  reachability.follow(snapshotOf([['edge-a', '10.244.1.3']]), viewWith(), facts)
  assert.deepEqual(asked()?.addresses, ['10.244.1.3'])
})

test('where reachability is tunnel nobody is answered', async () => {
  await using reachability = setUp('tunnel', {})
  await reachability.startAnswering('127.0.0.1')
  const [ours, theirs] = createMemoryStreamPair()
  theirs.on('error', () => {})
  reachability.accept(theirs)
  await assert.rejects(proposeTerms(ours, signal))
})

test('an address that cannot be listened at costs nothing but the answers', async () => {
  await using reachability = setUp('auto', {})
  await reachability.startAnswering('203.0.113.77')
  reachability.follow(spread, viewWith(), facts)
  assert.equal(reachability.asked, undefined)
})
