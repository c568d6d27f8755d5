import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { NetworkInterface, NetworkView } from '../../linux/index.ts'
import { isInIpv4Network } from '../../model/index.ts'
import { reasonAgainstRoute, routeFactsOf } from './routes.ts'

const link = (name: string, ...addresses: readonly string[]): NetworkInterface => ({
  name,
  isUp: true,
  isLoopback: name === 'lo',
  bridgeNetfilter: false,
  addresses: addresses.map((text) => {
    const [address = '', length] = text.split('/')
    return { address, prefixLength: Number(length) }
  }),
})

const view: NetworkView = {
  interfaces: [
    link('lo', '127.0.0.1/8'),
    link('eth0', '192.168.1.11/24'),
    link('cni0', '10.244.1.1/24'),
    { ...link('docker0', '172.17.0.1/16'), isUp: false },
    link('edgemesh0', '169.254.96.16/32'),
  ],
  defaultRouteInterfaces: ['eth0'],
  defaultGateways: [],
  routes: [
    { network: '10.244.0.0/16', leadsSomewhere: true, interface: 'eth0' },
    { network: '10.244.3.0/24', leadsSomewhere: false },
    { network: '10.244.1.0/24', leadsSomewhere: true, interface: 'cni0' },
    { network: '192.168.1.0/24', leadsSomewhere: true, interface: 'eth0' },
  ],
}
const options = { foreignInterfaces: ['eth0'], deviceName: 'edgemesh0', podCIDRs: [] }
const facts = routeFactsOf(view, options)

test('an address with a route of its own may be another node’s', () => {
  assert.equal(reasonAgainstRoute('10.244.2.2', facts), undefined)
  assert.equal(reasonAgainstRoute('192.168.1.12', facts), undefined)
})

test('what leaves by the default route, or by one that leads nowhere, is not asked after', () => {
  for (const address of ['10.245.0.1', '10.244.3.3']) {
    assert.equal(reasonAgainstRoute(address, facts), `no route leads to ${address} but the default one`)
  }
})

test('addresses of this node and of its pods are never another node’s', () => {
  assert.equal(reasonAgainstRoute('10.244.1.7', facts), 'pods of this node may have 10.244.1.7')
  assert.equal(reasonAgainstRoute('192.168.1.11', facts), '192.168.1.11 is an address of this node')
  assert.equal(reasonAgainstRoute('fd00::1', facts), 'fd00::1 is no IPv4 address')
})

test('questions are asked in the name of the pods behind each bridge that is up', () => {
  assert.deepEqual(facts.podSources, ['10.244.1.1'])
})

test('where pods have no network of their own, an address of the node in their range stands for them', () => {
  const routed = { ...view, interfaces: [link('eth0', '192.168.1.11/24'), link('vxlan.calico', '10.244.1.64/32')] }
  const known = routeFactsOf(routed, { ...options, podCIDRs: ['10.244.1.0/24', '10.250.0.0/24'] })
  assert.deepEqual(known.podSources, ['10.244.1.64'])
  const isSpokenFor = (address: string) => known.spokenFor.some((network) => isInIpv4Network(address, network))
  assert.deepEqual(['10.244.1.9', '10.250.0.9'].map(isSpokenFor), [true, false])
})
