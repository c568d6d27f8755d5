import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodeAddressOf } from './node-address.ts'

const node = { name: 'edge-a', labels: {}, internalIPs: ['fd00::5', '192.0.2.5'], podCIDRs: [] }
const interfaces = [
  { interface: 'lo', address: '127.0.0.1', prefixLength: 8 },
  { interface: 'eth0', address: '192.0.2.5', prefixLength: 24 },
]

test('ports of the node are dialled at its InternalIP, the IPv4 one', () => {
  assert.equal(nodeAddressOf(node, interfaces, '169.254.96.16'), '192.0.2.5')
})

test('an InternalIP that is on no interface any more may be another machine, so the bridge address is dialled', () => {
  const stale = { ...node, internalIPs: ['192.0.2.99'] }
  assert.equal(nodeAddressOf(stale, interfaces, '169.254.96.16'), '169.254.96.16')
})

test('a node that the catalog does not know is dialled at the bridge address', () => {
  assert.equal(nodeAddressOf(undefined, interfaces, '169.254.96.16'), '169.254.96.16')
})
