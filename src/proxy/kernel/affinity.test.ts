import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mayHoldStaleClients, staleClientsIn } from './affinity.ts'
import { type Ruleset, rulesetOf } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

/** A ServicePort with affinity by the last numbers of its endpoints. */
function sticky(...endpoints: readonly number[]): RuledServicePort {
  const slots = endpoints.map((host) => ({ address: `10.244.1.${host}`, port: 8080 }))
  const choice = { name: 'shop/web:80/tcp', slots, kind: 'random', affinitySeconds: 30 } as const
  const external = {
    protocol: 'tcp',
    destinations: [{ protocol: 'tcp', address: '203.0.113.5', port: 80 }],
    nodePort: 30080,
    choice,
  } as const
  return { ...choice, destinations: [{ protocol: 'tcp', address: '10.96.0.10', port: 80 }], hairpins: [], external }
}

const forgetful = (...endpoints: readonly number[]): RuledServicePort => ({
  name: 'shop/other:80/tcp',
  slots: endpoints.map((host) => ({ address: `10.244.1.${host}`, port: 8080 })),
  kind: 'random',
  destinations: [{ protocol: 'tcp', address: '10.96.0.11', port: 80 }],
  hairpins: [],
})

const rulesetWith = (entries: Readonly<Record<string, RuledServicePort>>): Ruleset =>
  rulesetOf({
    servicePorts: new Map(Object.entries(entries)),
    syntheticRange: '169.254.64.0/19',
    bridgeAddress: '169.254.96.16',
    listenPorts: [24001],
    foreignInterfaces: [],
    servesForeign: false,
    switchedNetworks: [],
  })

test('clients are looked for when a ServicePort with affinity lost an endpoint, or nobody knows what was before', () => {
  const other = forgetful(2, 3)
  const before = rulesetWith({ web: sticky(2, 3), other })
  assert.equal(mayHoldStaleClients(before, rulesetWith({ web: sticky(2), other })), true)
  assert.equal(mayHoldStaleClients(before, rulesetWith({ web: sticky(2, 3, 4), other })), false)
  assert.equal(mayHoldStaleClients(before, rulesetWith({ web: sticky(2, 3), other: forgetful(2) })), false)
  assert.equal(mayHoldStaleClients(undefined, before), true)
  assert.equal(mayHoldStaleClients(undefined, rulesetWith({ other })), false)
})

test('clients of endpoints that are gone are stale, whichever address they asked for', () => {
  const remembered = ['10.96.0.10 . 80', '203.0.113.5 . 80', '192.168.1.11 . 30080', '10.96.0.99 . 80'].flatMap(
    (asked) =>
      [2, 3].map((host) => ({
        container: 'affinity',
        key: `tcp . ${asked} . 10.244.1.9`,
        value: `10.244.1.${host} . 8080`,
      })),
  )
  const stale = staleClientsIn(remembered, rulesetWith({ web: sticky(2) }))
  assert.deepEqual(
    stale.map(({ key, value = '' }) => `${key.split(' . ').slice(1, 3).join(':')} ${value.split(' . ')[0]}`),
    [
      '10.96.0.10:80 10.244.1.3',
      '203.0.113.5:80 10.244.1.3',
      '192.168.1.11:30080 10.244.1.3',
      '10.96.0.99:80 10.244.1.2',
      '10.96.0.99:80 10.244.1.3',
    ],
  )
})
