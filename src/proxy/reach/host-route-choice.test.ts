import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterface, NetworkView } from '../../linux/index.ts'
import { parseIpv4Network } from '../../model/index.ts'
import { chooseHostRoutes, createAddressFinder, type HostRouteFacts } from './host-route-choice.ts'

const link = (name: string, ...networks: readonly string[]): NetworkInterface => ({
  name,
  isUp: true,
  isLoopback: name === 'lo',
  bridgeNetfilter: false,
  addresses: networks.map((text) => {
    const [address = '', length] = text.split('/')
    return { address, prefixLength: Number(length) }
  }),
})

const interfaces = [link('lo', '127.0.0.1/8'), link('eth0', '192.168.1.11/24'), link('cni0', '10.244.1.1/24')]
const quiet: NetworkView = {
  interfaces,
  defaultRouteInterfaces: ['eth0'],
  defaultGateways: ['192.168.1.1'],
  routes: [
    { network: '192.168.1.0/24', leadsSomewhere: true, interface: 'eth0' },
    { network: '10.244.1.0/24', leadsSomewhere: true, interface: 'cni0' },
  ],
}

type Ranges = Readonly<Record<string, readonly string[]>>
const nodesOf = (ranges: Ranges): HostRouteFacts['nodes'] =>
  new Map(Object.entries(ranges).map(([name, podCIDRs]) => [name, { name, labels: {}, internalIPs: [], podCIDRs }]))

function choose(podCIDRs: readonly string[], changes: Partial<HostRouteFacts> = {}, others: Ranges = {}) {
  const [chosen, ...more] = chooseHostRoutes({
    nodeName: 'edge-a1',
    nodes: nodesOf({ 'edge-a1': ['10.244.1.0/24'], ...others, 'edge-a2': podCIDRs }),
    neighbours: new Map([['edge-a2', '192.168.1.12']]),
    view: quiet,
    syntheticRange: '169.254.64.0/19',
    addressIn: () => undefined,
    ...changes,
  })
  assert.ok(chosen)
  assert.deepEqual(more, [])
  return chosen
}

const toEdgeA2 = { network: '10.244.2.0/24', gateway: '192.168.1.12', interface: 'eth0' }

test('the pods of a neighbour are routed to where the tunnel has met it', () => {
  assert.deepEqual(choose(['10.244.2.0/24']), { node: 'edge-a2', gateway: '192.168.1.12', routes: [toEdgeA2] })
})

test('networks of IPv6 are left alone, and a neighbour without any other is told apart', () => {
  assert.deepEqual(choose(['fd00::/64', '10.244.2.0/24']).routes, [toEdgeA2])
  for (const podCIDRs of [[], ['fd00::/64'], ['10.244.2.1/24']]) {
    assert.match(choose(podCIDRs).reason ?? '', /^its Node names no IPv4 network of its pods/)
  }
})

test('only neighbours get routes: not this node, and no node that the tunnel has not met in the LAN', () => {
  const neighbours = new Map([['edge-a1', '192.168.1.11']])
  const nodes = nodesOf({ 'edge-a1': ['10.244.1.0/24'], 'edge-a2': ['10.244.2.0/24'] })
  const facts = { nodeName: 'edge-a1', nodes, neighbours, view: quiet, syntheticRange: '169.254.64.0/19' }
  assert.deepEqual(chooseHostRoutes({ ...facts, addressIn: () => undefined }), [])
})

const clashes: readonly [what: string, podCIDR: string, clash: string, others?: Ranges][] = [
  ['of another node', '10.244.3.0/24', 'the pods of edge-b1', { 'edge-b1': ['10.244.3.0/24'] }],
  ['around that of another node', '10.244.0.0/22', 'the network of cni0, 10.244.1.0/24'],
  ['within that of another node', '10.250.3.0/24', 'the pods of edge-b1', { 'edge-b1': ['10.250.0.0/16'] }],
  ['of the LAN', '192.168.1.128/25', 'the network of eth0, 192.168.1.0/24'],
  ['of everything', '0.0.0.0/0', 'edgeProxy.syntheticRange, 169.254.64.0/19'],
  ['of the synthetic range', '169.254.65.0/24', 'edgeProxy.syntheticRange, 169.254.64.0/19'],
  ['of loopback', '127.1.0.0/24', 'the network of lo, 127.0.0.0/8'],
]
for (const [what, podCIDR, clash, others] of clashes) {
  test(`no route to the network ${what}`, () => {
    const { routes, reason } = choose([podCIDR], {}, others)
    assert.deepEqual(routes, [])
    assert.equal(reason, `${podCIDR} clashes with ${clash}`)
  })
}

test('no route to the pods of this node, also where none of its interfaces shows them', () => {
  const view = { ...quiet, interfaces: interfaces.slice(0, 2), routes: [] }
  assert.equal(choose(['10.244.1.0/25'], { view }).reason, '10.244.1.0/25 clashes with the pods of this node')
})

test('routes of others come first, narrower and wider ones; routes of ours do not stand in the way', () => {
  const withRoute = (network: string, isOurs?: true) => {
    const route = { network, leadsSomewhere: true, interface: 'tun0', ...(isOurs && { isOurs }) }
    return choose(['10.244.2.0/24'], { view: { ...quiet, routes: [...quiet.routes, route] } })
  }
  for (const network of ['10.244.2.0/24', '10.244.2.64/26', '10.0.0.0/8']) {
    const { routes, reason } = withRoute(network)
    assert.deepEqual([routes, reason], [[], `10.244.2.0/24 clashes with the route ${network} dev tun0`])
  }
  assert.deepEqual(withRoute('10.244.2.0/24', true).routes, [toEdgeA2])
})

test('a route that refuses packets is a route of others too', () => {
  const view = { ...quiet, routes: [{ network: '10.244.0.0/16', leadsSomewhere: false }] }
  assert.equal(choose(['10.244.2.0/24'], { view }).reason, '10.244.2.0/24 clashes with the route 10.244.0.0/16')
})

test('no route over addresses that are no pods', () => {
  const addressIn = createAddressFinder([['10.244.2.200', 'the Service address']])
  const { routes, reason } = choose(['10.244.2.0/24', '10.245.2.0/24'], { addressIn })
  assert.equal(reason, '10.244.2.0/24 clashes with the Service address 10.244.2.200')
  assert.deepEqual(routes, [{ ...toEdgeA2, network: '10.245.2.0/24' }])
})

test('no route through the router, behind which a neighbour only seems to be', () => {
  const { routes, reason } = choose(['10.244.2.0/24'], { neighbours: new Map([['edge-a2', '192.168.1.1']]) })
  assert.deepEqual([routes, reason], [[], "the tunnel meets it at 192.168.1.1, which is this node's router"])
})

test('no route to where no interface leads, or which is this node itself', () => {
  const down = interfaces.map((entry) => ({ ...entry, isUp: entry.name !== 'eth0' }))
  for (const [address, view] of [
    ['192.168.9.12', quiet],
    ['192.168.1.11', quiet],
    ['192.168.1.12', { ...quiet, interfaces: down }],
  ] as const) {
    const { routes, reason } = choose(['10.244.2.0/24'], { view, neighbours: new Map([['edge-a2', address]]) })
    assert.deepEqual([routes, reason], [[], `no interface of this node is in a network with ${address}`])
  }
})

test('of several interfaces it is the one with the smallest network', () => {
  const view = { ...quiet, interfaces: [link('wide', '192.168.0.1/16'), ...interfaces] }
  assert.deepEqual(choose(['10.244.2.0/24'], { view }).routes, [toEdgeA2])
})

test('addresses are found by network, at its ends as well', () => {
  const find = createAddressFinder([
    ['10.0.1.255', 'b'],
    ['10.0.0.0', 'a'],
    ['fd00::1', 'other family'],
    ['255.255.255.255', 'last'],
  ])
  const found = (text: string) => find(parseIpv4Network(text) ?? assert.fail(text))
  assert.equal(found('10.0.0.0/24'), 'a 10.0.0.0')
  assert.equal(found('10.0.1.0/24'), 'b 10.0.1.255')
  assert.equal(found('10.0.2.0/24'), undefined)
  assert.equal(found('9.255.255.0/24'), undefined)
  assert.equal(found('255.0.0.0/8'), 'last 255.255.255.255')
  assert.equal(createAddressFinder([])({ base: 0, prefixLength: 0 }), undefined)
})
