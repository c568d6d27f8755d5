import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog, type Snapshot } from '../catalog/index.ts'
import type { DestinationRule, TrafficPolicy } from '../model/index.ts'
import { createNearNodes } from './near-nodes.ts'

function snapshotWith(trafficPolicy: TrafficPolicy, portPolicy: TrafficPolicy = {}): Snapshot {
  using catalog = createCatalog()
  const rule: DestinationRule = {
    namespace: 'shop',
    name: 'web',
    host: 'web',
    exportTo: [],
    trafficPolicy,
    portPolicies: [{ port: 80, trafficPolicy: portPolicy }],
    subsets: [],
    ignored: [],
  }
  catalog.replace('nodes', [])
  catalog.replace('endpointSlices', [])
  catalog.replace('destinationRules', [rule])
  catalog.replace('services', [])
  return catalog.current
}

const plain = snapshotWith({})

test('the set stays the same object until others are near', () => {
  let names = ['edge-a2', 'edge-a3']
  const near = createNearNodes(true, () => new Set(names))
  const first = near(plain)
  assert.deepEqual([...(first ?? [])], names)
  names = ['edge-a3', 'edge-a2']
  assert.equal(near(plain), first)
  names = ['edge-a3', 'edge-a4']
  assert.deepEqual([...(near(plain) ?? [])], names)
})

test('nobody is asked unless the node or a rule wants to know', () => {
  let asked = 0
  const near = createNearNodes(false, () => {
    asked += 1
    return new Set(['edge-a2'])
  })
  assert.equal(near(plain), undefined)
  assert.equal(near(snapshotWith({ locality: 'none' })), undefined)
  assert.equal(asked, 0)
  assert.equal(near(snapshotWith({ locality: 'nearest' }))?.size, 1)
  assert.equal(near(snapshotWith({}, { locality: 'nearest' }))?.size, 1)
  assert.equal(createNearNodes(true, undefined)(plain), undefined)
})
