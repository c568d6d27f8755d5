import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDesiredStateMaker } from '../desired-state.ts'
import { elementsOf } from '../kernel/ruled-service-port.ts'
import { createAskedServicePort } from './asked-service-port.ts'

const asked = { addresses: ['10.244.2.2', '192.168.1.12'], socket: { address: '169.254.90.1', port: 41234 } }

test('questions at any address of an endpoint here lead to the socket that answers', () => {
  const [planned] = createAskedServicePort('edge-a')(asked)
  assert.ok(planned !== undefined)
  const { rules } = createDesiredStateMaker()({
    plan: { servicePorts: [], addresses: [], external: [], nodePorts: [], healthChecks: [] },
    others: [planned],
    synthetic: new Map(),
    facts: { foreignInterfaces: [], switchedNetworks: [], hasDefaultRoute: true, nodeAddress: undefined },
    syntheticRange: '169.254.64.0/19',
    bridgeAddress: '169.254.96.16',
    listenPorts: [24001],
    clients: 'local',
    isDraining: false,
  })
  const elements = [...rules.servicePorts.values()].flatMap(elementsOf).map(({ container, key, value }) => {
    return [container, key, value ?? ''].join(' ')
  })
  for (const address of asked.addresses) {
    assert.ok(elements.includes(`external udp . ${address} . 20006 jump slots-1`))
    assert.ok(elements.includes(`slot-0 udp . ${address} . 20006 169.254.90.1 . 41234`))
  }
  // Connections to endpoints that have nothing to do with Services keep their source addresses.
  assert.equal(
    elements.find((element) => element.startsWith('cluster-addresses')),
    undefined,
  )
})

test('nothing is served while nobody asks, and the same is the same object', () => {
  const planned = createAskedServicePort('edge-a')
  assert.deepEqual(planned(undefined), [])
  assert.equal(planned(undefined), planned(undefined))
  assert.equal(planned(asked), planned(asked))
  assert.notEqual(planned(asked), planned({ ...asked }))
})
