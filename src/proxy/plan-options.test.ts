import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIpv4Network } from '../model/index.ts'
import { createPlanOptionsMaker, zoneOf } from './plan-options.ts'

const fixed = {
  nodeName: 'edge-a1',
  serviceFilterMode: 'FilterIfLabelExists',
  interceptKubernetesService: false,
  balancing: 'random',
  syntheticNetwork: parseIpv4Network('169.254.64.0/19') ?? assert.fail(),
} as const

test('options are the same object until something that may change has changed', () => {
  const make = createPlanOptionsMaker(fixed)
  const reached = { has: () => false }
  const near = new Set(['edge-a2'])
  const changing = { zone: 'za', near, withdrawn: new Set<string>(), reached, excludedAddresses: new Set<string>() }
  const first = make(changing)
  assert.deepEqual(first, { ...fixed, ...changing })
  assert.equal(make({ ...changing }), first)
  const others = [{ zone: 'zb' }, { withdrawn: new Set<string>() }, { excludedAddresses: new Set<string>() }]
  for (const changed of [
    ...others,
    { reached: { has: () => true } },
    { reached: undefined },
    { near: new Set<string>() },
  ]) {
    const before = make(changing)
    assert.notEqual(make({ ...changing, ...changed }), before)
  }
})

test('the zone of a node is in its label', () => {
  assert.equal(zoneOf({ labels: { 'topology.kubernetes.io/zone': 'za' } }), 'za')
  assert.equal(zoneOf({ labels: {} }), undefined)
  assert.equal(zoneOf(undefined), undefined)
})
