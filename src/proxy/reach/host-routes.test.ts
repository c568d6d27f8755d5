import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../../catalog/index.ts'
import type { NeighbourRoute, NetworkRoute, NetworkView } from '../../linux/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { type HostRoutesOptions, startHostRoutes } from './host-routes.ts'

const edgeA2 = { network: '10.244.2.0/24', gateway: '192.168.1.12', interface: 'eth0' }

function soon(_delayMs: number, callback: () => void): Disposable {
  queueMicrotask(callback)
  return { [Symbol.dispose]() {} }
}

/** A node edge-a1 with neighbours; time passes, and routes are looked at, only when told. */
async function setUp({
  ours = [],
  unwatchable,
  ...changes
}: Partial<HostRoutesOptions> & { ours?: readonly NeighbourRoute[]; unwatchable?: Error } = {}) {
  const catalog = createCatalog({ nodeName: 'edge-a1', schedule: soon })
  const writeNodes = (ranges: Readonly<Record<string, string>>) => {
    const entries = Object.entries(ranges)
    catalog.replace(
      'nodes',
      entries.map(([name, podCIDR]) => ({ name, labels: {}, internalIPs: [], podCIDRs: [podCIDR] })),
    )
  }
  writeNodes({ 'edge-a1': '10.244.1.0/24', 'edge-a2': '10.244.2.0/24', 'edge-a3': '10.244.3.0/24' })
  catalog.replace('services', [])
  catalog.replace('endpointSlices', [])
  const state = {
    met: new Map([['edge-a2', '192.168.1.12']]),
    routes: ours.map((route): NetworkRoute => ({ ...route, leadsSomewhere: true, isOurs: true })),
    nowMs: 0,
    refusal: undefined as Error | undefined,
    unreadable: undefined as Error | undefined,
    unwatchable,
  }
  const set: string[][] = []
  const told: string[] = []
  const tell = ({ node, reason, error }: { node?: string; reason?: string; error?: unknown }, message: string) =>
    void told.push(`${node ?? ''}: ${message}: ${reason ?? error}`)
  let onChange = () => {}
  let wake = () => {}
  let looked = Promise.withResolvers<void>()
  const hostRoutes = startHostRoutes({
    config: { hostRoutes: true, reachability: 'auto', syntheticRange: '169.254.64.0/19' },
    nodeName: 'edge-a1',
    catalog,
    peers: { lanAddresses: () => state.met },
    network: {
      async setNeighbourRoutes(routes) {
        set.push(routes.map(({ network, gateway }) => `${network} via ${gateway}`))
        const { refusal: error } = state
        return error === undefined ? [] : routes.map((route) => ({ route, error }))
      },
      async view(): Promise<NetworkView> {
        if (state.unreadable !== undefined) throw state.unreadable
        const lan = { address: '192.168.1.11', prefixLength: 24 }
        const eth0 = { name: 'eth0', isUp: true, isLoopback: false, bridgeNetfilter: false, addresses: [lan] }
        const { routes } = state
        return { interfaces: [eth0], defaultRouteInterfaces: [], defaultGateways: [], routes }
      },
      async watch(listener) {
        if (state.unwatchable !== undefined) throw state.unwatchable
        onChange = listener
        return { [Symbol.dispose]() {} }
      },
    },
    logger: { ...silentLogger, info: tell, warn: tell },
    nowMs: () => state.nowMs,
    sleep: (_ms, signal) =>
      new Promise((resolve, reject) => {
        wake = resolve
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
        looked.resolve()
      }),
    ...changes,
  })
  const look = async () => {
    looked = Promise.withResolvers()
    wake()
    await looked.promise
  }
  if (changes.config === undefined) await looked.promise
  const changeNetwork = (routes: readonly NetworkRoute[]) => {
    state.routes = [...routes]
    onChange()
  }
  return { hostRoutes, catalog, writeNodes, state, set, told, look, changeNetwork }
}

test('routes follow the neighbours that the tunnel meets, and are left alone while nothing changes', async () => {
  const { hostRoutes, state, set, told, look } = await setUp()
  await using _stopped = hostRoutes
  assert.deepEqual(hostRoutes.status(), [{ node: 'edge-a2', gateway: '192.168.1.12', networks: ['10.244.2.0/24'] }])
  await look()
  state.met = new Map([...state.met, ['edge-a3', '192.168.1.13']])
  await look()
  await look()
  assert.deepEqual(set, [
    ['10.244.2.0/24 via 192.168.1.12'],
    ['10.244.2.0/24 via 192.168.1.12', '10.244.3.0/24 via 192.168.1.13'],
  ])
  assert.deepEqual(told, [
    'edge-a2: pods of a neighbour are routed to it: 10.244.2.0/24',
    'edge-a3: pods of a neighbour are routed to it: 10.244.3.0/24',
  ])
})

test('a neighbour that is not met any more keeps its route for a minute, one whose address another has does not', async () => {
  const { hostRoutes, state, set, told, look } = await setUp()
  await using _stopped = hostRoutes
  state.met = new Map()
  state.nowMs = 59_000
  await look()
  assert.deepEqual(set.at(-1), ['10.244.2.0/24 via 192.168.1.12'])
  state.nowMs = 61_000
  await look()
  assert.deepEqual(set.at(-1), [])
  assert.equal(told.at(-1), 'edge-a2: pods of a former neighbour are not routed any more: undefined')
  state.met = new Map([['edge-a2', '192.168.1.12']])
  await look()
  state.met = new Map([['edge-a3', '192.168.1.12']])
  await look()
  assert.deepEqual(set.slice(-2), [['10.244.2.0/24 via 192.168.1.12'], ['10.244.3.0/24 via 192.168.1.12']])
})

test('a neighbour at another address has its route changed at once', async () => {
  const { hostRoutes, state, set, look } = await setUp()
  await using _stopped = hostRoutes
  state.met = new Map([['edge-a2', '192.168.1.22']])
  await look()
  assert.deepEqual(set.at(-1), ['10.244.2.0/24 via 192.168.1.22'])
})

test('a network that comes to clash loses its route, and the reason is told once', async () => {
  const { hostRoutes, writeNodes, set, told, look, changeNetwork } = await setUp()
  await using _stopped = hostRoutes
  const foreign = { network: '10.244.2.0/24', leadsSomewhere: true, interface: 'flannel.1' }
  changeNetwork([foreign])
  await look()
  await look()
  assert.deepEqual(set.at(-1), [])
  const reason = '10.244.2.0/24 clashes with the route 10.244.2.0/24 dev flannel.1'
  assert.deepEqual(hostRoutes.status(), [{ node: 'edge-a2', gateway: '192.168.1.12', networks: [], reason }])
  assert.deepEqual(told.slice(1), [`edge-a2: pods of a neighbour are not routed to it: ${reason}`])
  changeNetwork([])
  await look()
  assert.deepEqual(set.at(-1), ['10.244.2.0/24 via 192.168.1.12'])
  writeNodes({ 'edge-a2': '10.244.2.0/24', 'edge-b1': '10.244.2.0/24' })
  await look()
  assert.equal(hostRoutes.status()[0]?.reason, '10.244.2.0/24 clashes with the pods of edge-b1')
})

test('Service addresses, nodes and what this node itself needs are never routed to a neighbour', async () => {
  const excluded = new Set(['10.244.3.9'])
  const { hostRoutes, catalog, state, look } = await setUp({ excludedAddresses: () => excluded })
  await using _stopped = hostRoutes
  state.met.set('edge-a3', '192.168.1.13')
  const node = { labels: {}, podCIDRs: ['10.244.2.0/24'] }
  catalog.replace('nodes', [
    { ...node, name: 'edge-a2', internalIPs: [] },
    { ...node, name: 'edge-a3', podCIDRs: ['10.244.3.0/24'], internalIPs: [] },
    { ...node, name: 'edge-b1', podCIDRs: [], internalIPs: ['10.244.2.7'] },
  ])
  await look()
  assert.deepEqual(
    hostRoutes.status().map(({ reason }) => reason),
    [
      '10.244.2.0/24 clashes with the node edge-b1 at 10.244.2.7',
      '10.244.3.0/24 clashes with an address that this node needs: 10.244.3.9',
    ],
  )
})

test('what the kernel refuses is told once and tried again after half a minute', async () => {
  const { hostRoutes, state, set, told, look, changeNetwork } = await setUp()
  await using _stopped = hostRoutes
  state.refusal = new Error('Cannot add the route: the kernel answers ENETUNREACH')
  changeNetwork([])
  await look()
  await look()
  assert.equal(set.length, 2)
  assert.deepEqual(hostRoutes.status()[0]?.networks, [])
  assert.match(hostRoutes.status()[0]?.reason ?? '', /ENETUNREACH$/)
  state.nowMs = 31_000
  await look()
  assert.equal(set.length, 3)
  assert.equal(told.length, 2)
  state.refusal = undefined
  state.nowMs = 62_000
  await look()
  assert.deepEqual(hostRoutes.status()[0]?.networks, ['10.244.2.0/24'])
})

test('routes are put right from time to time also where no change was seen', async () => {
  const { hostRoutes, state, set, told, look } = await setUp()
  await using _stopped = hostRoutes
  state.nowMs = 9_000
  await look()
  assert.equal(set.length, 1)
  state.nowMs = 11_000
  await look()
  await look()
  assert.equal(set.length, 2)
  assert.equal(told.length, 1)
})

test('a network that cannot be read is told of once, and nothing is changed meanwhile', async () => {
  const { hostRoutes, state, set, told, look, changeNetwork } = await setUp()
  await using _stopped = hostRoutes
  state.unreadable = new Error('Cannot list routes')
  changeNetwork([])
  await look()
  await look()
  assert.equal(set.length, 1)
  assert.deepEqual(told.slice(1), [': cannot route pods of neighbours; trying again: Error: Cannot list routes'])
  state.unreadable = undefined
  await look()
  assert.equal(set.length, 2)
})

test('a network that cannot be watched at first is tried again', async () => {
  const { hostRoutes, state, set, told, look } = await setUp({ unwatchable: new Error('no buffer space') })
  await using _stopped = hostRoutes
  await look()
  assert.deepEqual([set, told.length], [[], 1])
  assert.match(told[0] ?? '', /cannot route pods of neighbours; trying again: .*no buffer space/)
  state.unwatchable = undefined
  await look()
  assert.deepEqual(set, [['10.244.2.0/24 via 192.168.1.12']])
})

test('routes of an earlier run stay for a minute until the tunnel meets these neighbours again', async () => {
  const gone = { network: '10.244.9.0/24', gateway: '192.168.1.19', interface: 'eth0' }
  const { hostRoutes, state, set, look } = await setUp({ ours: [edgeA2, gone] })
  await using _stopped = hostRoutes
  assert.deepEqual(set, [['10.244.2.0/24 via 192.168.1.12']])
  state.met = new Map()
  state.nowMs = 61_000
  await look()
  assert.deepEqual(set.at(-1), [])
})

for (const changed of [{ hostRoutes: false }, { reachability: 'tunnel' }] as const) {
  test(`with ${JSON.stringify(changed)} those of an earlier run are removed, once that can be done`, async () => {
    const removed = Promise.withResolvers<readonly NeighbourRoute[]>()
    const error = new Error('no buffer space')
    let refusals = 1
    const config = { hostRoutes: true, reachability: 'auto', syntheticRange: '169.254.64.0/19', ...changed } as const
    const network: HostRoutesOptions['network'] = {
      async setNeighbourRoutes(routes) {
        if (refusals-- > 0) return [{ route: edgeA2, error }]
        removed.resolve(routes)
        return []
      },
      view: () => assert.fail('nothing is looked at'),
      watch: () => assert.fail('nothing is watched'),
    }
    const { hostRoutes, told } = await setUp({ config, network, sleep: async () => {} })
    assert.deepEqual(await removed.promise, [])
    assert.equal(told.length, 1)
    await hostRoutes[Symbol.asyncDispose]()
    assert.deepEqual(hostRoutes.status(), [])
  })
}
