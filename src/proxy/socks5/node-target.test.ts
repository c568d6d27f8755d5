import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog } from '../../catalog/index.ts'
import { SocksError, type SocksRequest } from './messages.ts'
import { nodeTargetOf } from './node-target.ts'

const catalog = createCatalog()
catalog.replace(
  'nodes',
  [
    ['edge-a1', '192.168.1.11', '2001:db8::11'],
    ['edge-b1', '192.168.1.12'],
    ['edge-c1', '192.168.1.12'],
    ['edge-d1'],
  ].map(([name = '', ...internalIPs]) => ({ name, labels: {}, internalIPs, podCIDRs: [] })),
)
for (const kind of ['services', 'endpointSlices'] as const) catalog.replace(kind, [])

function find(destination: SocksRequest['destination']): string {
  const { nodeName, address } = nodeTargetOf({ destination, port: 22 }, catalog.current)
  return `${nodeName} ${address}`
}
const byName = (name: string) => find({ kind: 'name', name })
const byAddress = (address: string) => find({ kind: 'address', address })

test('a node is found by its name in any case, known to the cluster or only to the mesh', () => {
  assert.equal(byName('edge-a1'), 'edge-a1 192.168.1.11')
  assert.equal(byName('Edge-A1.'), 'edge-a1 192.168.1.11')
  assert.equal(byName('edge-d1'), 'edge-d1 0.0.0.0')
  assert.equal(byName('cloud.example.org'), 'cloud.example.org 0.0.0.0')
})

test('a node is found by an address that is only its own, also one sent as a name', () => {
  assert.equal(byAddress('192.168.1.11'), 'edge-a1 192.168.1.11')
  assert.equal(byAddress('2001:db8:0:0:0:0:0:11'), 'edge-a1 192.168.1.11')
  assert.equal(byName('192.168.1.11'), 'edge-a1 192.168.1.11')
})

test('an address of no node or of two is refused, since the wrong one could answer', () => {
  for (const [address, reason] of [
    ['192.168.1.12', /several nodes \(edge-b1, edge-c1\)/],
    ['203.0.113.7', /no node/],
    ['127.0.0.1', /no node/],
    ['2001:db8:0:0:0:0:0:12', /no node/],
    ['::1::', /no node/],
  ] as const) {
    assert.throws(() => byAddress(address), { name: 'SocksError', reply: 2, message: reason })
  }
})

test('what can be no name of a node is unreachable', () => {
  for (const name of ['', '-', 'a b', 'a/b', 'a\0b', 'ä']) {
    assert.throws(
      () => byName(name),
      (error) => error instanceof SocksError && error.reply === 4,
    )
  }
})
