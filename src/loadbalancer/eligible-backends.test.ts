import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sampleService } from '../catalog/samples.ts'
import type { Backend, Service } from '../model/index.ts'
import { eligibleBackends, type Here } from './eligible-backends.ts'

const base = sampleService()
const here: Here = { nodeName: 'a1', zone: 'za' }

function backend(nodeName: string, fields: Partial<Backend> = {}): Backend {
  return { nodeName, address: '10.244.0.1', port: 80, zone: `z${nodeName[0]}`, ...fields }
}

/** Node names of the chosen ones, and of those in reserve. */
function split(backends: readonly Backend[], service: Partial<Service> = {}, at: Partial<Here> = {}): string[] {
  const { chosen, reserve } = eligibleBackends(backends, { ...base, ...service }, { ...here, ...at })
  return [chosen, reserve].map((part) => part.map(({ nodeName }) => nodeName ?? '-').join(' '))
}

const plain = [backend('a1'), backend('a2'), backend('b1')]

test('without any wish all backends are used', () => {
  assert.deepEqual(split(plain), ['a1 a2 b1', ''])
})

test('internalTrafficPolicy Local leaves only this node, and nobody stands in', () => {
  assert.deepEqual(split(plain, { internalTrafficPolicy: 'Local' }), ['a1', ''])
  assert.deepEqual(split(plain, { internalTrafficPolicy: 'Local' }, { nodeName: 'c1' }), ['', ''])
})

test('backends with a hint for the own zone are used, the others stand in', () => {
  const hinted = [
    backend('a1', { forZones: ['zb'] }),
    backend('a2', { forZones: ['za'] }),
    backend('b1', { forZones: ['zb'] }),
  ]
  assert.deepEqual(split(hinted), ['a2', 'a1 b1'])
})

test('a hint for the node counts more than one for the zone', () => {
  const hinted = [
    backend('a1', { forZones: ['za'], forNodes: ['a2'] }),
    backend('a2', { forZones: ['zb'], forNodes: ['a1'] }),
  ]
  assert.deepEqual(split(hinted), ['a2', 'a1'])
  assert.deepEqual(split(hinted, {}, { nodeName: 'a3' }), ['a1', 'a2'])
})

test('hints count only when every backend has one and one is meant for this node', () => {
  assert.deepEqual(split([backend('a1', { forZones: ['za'] }), backend('b1')]), ['a1 b1', ''])
  assert.deepEqual(split([backend('a1', { forZones: ['zc'] }), backend('b1', { forZones: ['zb'] })]), ['a1 b1', ''])
  assert.deepEqual(split([backend('a1', { forZones: ['za'] })], {}, { zone: undefined }), ['a1', ''])
})

test('without hints the trafficDistribution is followed by zone and node', () => {
  assert.deepEqual(split(plain, { trafficDistribution: 'PreferSameZone' }), ['a1 a2', 'b1'])
  assert.deepEqual(split(plain, { trafficDistribution: 'PreferSameNode' }), ['a1', 'a2 b1'])
  assert.deepEqual(split(plain, { trafficDistribution: 'PreferSameNode' }, { nodeName: 'a3' }), ['a1 a2', 'b1'])
  assert.deepEqual(split(plain, { trafficDistribution: 'PreferSameZone' }, { zone: 'zc' }), ['a1 a2 b1', ''])
  assert.deepEqual(split(plain, { trafficDistribution: 'PreferSameZone' }, { zone: undefined }), ['a1 a2 b1', ''])
})

test('hints win over the trafficDistribution', () => {
  const hinted = [backend('a1', { forZones: ['zb'] }), backend('b1', { forZones: ['za'] })]
  assert.deepEqual(split(hinted, { trafficDistribution: 'PreferSameNode' }), ['b1', 'a1'])
})

test('where nearness counts it is node, then local network, then the rest', () => {
  const isNear = (nodeName: string) => nodeName.startsWith('a')
  assert.deepEqual(split(plain, {}, { isNear }), ['a1', 'a2 b1'])
  assert.deepEqual(split(plain.slice(1), {}, { isNear }), ['a2', 'b1'])
  assert.deepEqual(split(plain.slice(2), {}, { isNear }), ['b1', ''])
})

test('nearness chooses among the backends of the zone, not across zones', () => {
  const isNear = () => true
  const hinted = [backend('a1', { forZones: ['zb'] }), backend('a2', { forZones: ['za'] })]
  assert.deepEqual(split(hinted, {}, { isNear }), ['a2', 'a1'])
})

test('an endpoint outside the cluster is as near as the local network', () => {
  const outside: Backend = { address: '192.168.1.9', port: 80 }
  assert.deepEqual(split([outside, backend('b1')], {}, { isNear: () => false }), ['-', 'b1'])
})
