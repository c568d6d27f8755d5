import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterface } from '../../linux/index.ts'
import { coveringNetworks, networkFactsOf } from './network-facts.ts'

const link = (name: string, kind: string | undefined, ...addresses: string[]): NetworkInterface => ({
  name,
  kind,
  isUp: true,
  isLoopback: name === 'lo',
  bridgeNetfilter: false,
  addresses: addresses.map((text) => {
    const [address = '', prefixLength] = text.split('/')
    return { address, prefixLength: Number(prefixLength) }
  }),
})
const interfaces = [
  link('lo', undefined, '127.0.0.1/8'),
  link('edgemesh0', 'dummy', '169.254.96.16/32'),
  link('eth0', undefined, '192.168.1.11/24'),
  link('br-lan', 'bridge', '192.168.7.1/24'),
  link('cni0', 'bridge', '10.244.1.1/24'),
  link('veth1234', 'veth', '169.254.1.1/32'),
  link('wg0', 'wireguard', '10.8.0.2/24'),
]
const options = { deviceName: 'edgemesh0', internalIPs: [], bridgeNetfilter: true }

test('interfaces with a default route, the address of the node or a network of machines are foreign', () => {
  const view = { interfaces, defaultRouteInterfaces: ['eth0'], defaultGateways: [], routes: [] }
  assert.deepEqual(networkFactsOf(view, options).foreignInterfaces, ['eth0', 'wg0'])
  const known = networkFactsOf(view, { ...options, internalIPs: ['192.168.7.1'] })
  assert.deepEqual(known.foreignInterfaces, ['br-lan', 'eth0', 'wg0'])
})

test('a bridge with a default route is foreign, a bridge of pods is not', () => {
  const facts = networkFactsOf(
    { interfaces, defaultRouteInterfaces: ['br-lan'], defaultGateways: [], routes: [] },
    options,
  )
  assert.ok(facts.foreignInterfaces.includes('br-lan'))
  assert.ok(!facts.foreignInterfaces.includes('cni0'))
})

test('without a default route the node has the address of the cluster, else the first of a foreign interface', () => {
  const view = { interfaces, defaultRouteInterfaces: [], defaultGateways: [], routes: [] }
  assert.deepEqual(networkFactsOf(view, options).nodeAddress, '192.168.1.11')
  assert.deepEqual(networkFactsOf(view, { ...options, internalIPs: ['10.8.0.2'] }).nodeAddress, '10.8.0.2')
  assert.equal(networkFactsOf(view, options).hasDefaultRoute, false)
})

test('bridges switch unseen unless their frames pass through nftables', () => {
  const view = {
    interfaces: [link('cni0', 'bridge', '10.244.1.1/24')],
    defaultRouteInterfaces: [],
    defaultGateways: [],
    routes: [],
  }
  assert.deepEqual(networkFactsOf(view, { ...options, bridgeNetfilter: false }).switchedNetworks, ['10.244.1.0/24'])
  assert.deepEqual(networkFactsOf(view, options).switchedNetworks, [])
  const own = {
    interfaces: [{ ...link('cni0', 'bridge', '10.244.1.1/24'), bridgeNetfilter: true }],
    defaultRouteInterfaces: [],
    defaultGateways: [],
    routes: [],
  }
  assert.deepEqual(networkFactsOf(own, { ...options, bridgeNetfilter: false }).switchedNetworks, [])
})

test('ClusterIPs are covered by few networks that change seldom', () => {
  assert.deepEqual(coveringNetworks([]), [])
  assert.deepEqual(coveringNetworks(['10.96.0.1']), ['10.96.0.0/16'])
  assert.deepEqual(coveringNetworks(['10.96.0.1', '10.111.255.4']), ['10.96.0.0/12'])
  assert.deepEqual(coveringNetworks(['172.20.0.1', '10.96.0.1', 'fd00::1']), ['10.96.0.0/16', '172.20.0.0/16'])
  assert.deepEqual(coveringNetworks(['203.0.113.1', '203.0.113.2']), ['203.0.0.0/16'])
})
