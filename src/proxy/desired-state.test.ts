import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDesiredStateMaker, type ProxyInputs, userspaceRoutesOf } from './desired-state.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import type { PlannedServicePort } from './service-plan.ts'

const here = { nodeName: 'edge-a1', address: '10.244.1.2', port: 8080 }
const there = { nodeName: 'edge-b1', address: '10.244.2.2', port: 8080 }
const yonder = { nodeName: 'edge-c1', address: '10.244.3.2', port: 8080 }

function planned(direct: PlannedServicePort['direct'], userspace: PlannedServicePort['userspace']): PlannedServicePort {
  const destinations = [{ protocol: 'tcp', address: '10.96.0.10', port: 80 }] as const
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  return { id: 'shop/web:80/tcp', destinations, direct, userspace, reserve: direct, policy }
}

const facts = { foreignInterfaces: ['eth0'], switchedNetworks: [], hasDefaultRoute: true, nodeAddress: '192.168.1.11' }

function desired(entry: PlannedServicePort, changed: Partial<ProxyInputs> = {}) {
  return createDesiredStateMaker()(inputsOf(entry, changed))
}

function inputsOf(entry: PlannedServicePort, changed: Partial<ProxyInputs> = {}): ProxyInputs {
  return {
    plan: {
      servicePorts: [entry],
      addresses: entry.destinations.map(({ address }) => address),
      external: [],
      nodePorts: [],
      healthChecks: [],
    },
    others: [],
    synthetic: entry.userspace.length > 0 ? new Map([[entry.id, '169.254.64.7']]) : new Map(),
    facts,
    syntheticRange: '169.254.64.0/19',
    listenPort: 24001,
    dns: undefined,
    clients: 'local',
    isDraining: false,
    ...changed,
  }
}

/** Where the slots of the only ServicePort lead; "refused" without any. */
function slotsIn({ ruleset }: DesiredKernelState): string[] | 'refused' {
  const slots = ruleset.parts.get('shop/web:80/tcp')?.slots.map(({ address }) => address) ?? []
  return slots.length === 0 ? 'refused' : slots
}

const servesForeign = ({ ruleset }: DesiredKernelState): boolean =>
  ruleset.chains.get('outside')?.some((rule) => rule.endsWith('@service')) === true

test('with endpoints on both sides each endpoint has one slot', () => {
  assert.deepEqual(slotsIn(desired(planned([here], [there, yonder]))), ['10.244.1.2', '169.254.64.7', '169.254.64.7'])
})

test('without an endpoint here one slot does for all', () => {
  assert.deepEqual(slotsIn(desired(planned([], [there, yonder]))), ['169.254.64.7'])
})

test('while draining only endpoints here are left, and Services without one refuse', () => {
  assert.deepEqual(slotsIn(desired(planned([here], [there]), { isDraining: true })), ['10.244.1.2'])
  assert.equal(slotsIn(desired(planned([], [there]), { isDraining: true })), 'refused')
})

test('a ServicePort that found the synthetic range full is refused, or served by endpoints here', () => {
  assert.equal(slotsIn(desired(planned([], [there]), { synthetic: new Map() })), 'refused')
  assert.deepEqual(slotsIn(desired(planned([here], [there]), { synthetic: new Map() })), ['10.244.1.2'])
})

test('clients on the whole LAN means that who comes from outside is served as well', () => {
  assert.ok(!servesForeign(desired(planned([here], []))))
  assert.ok(servesForeign(desired(planned([here], []), { clients: 'lan' })))
})

test('ClusterIPs have host routes only while there is no default route', () => {
  assert.deepEqual(desired(planned([here], [])).hostRoutes, { addresses: [] })
  const alone = desired(planned([here], []), { facts: { ...facts, hasDefaultRoute: false } })
  assert.deepEqual(alone.hostRoutes, { addresses: ['10.96.0.10'], source: '192.168.1.11' })
})

test('what did not change is the same object, so that nothing is done about it', () => {
  const entry = planned([here], [there])
  const inputs = inputsOf(entry)
  const desire = createDesiredStateMaker()
  const before = desire(inputs)
  const after = desire({ ...inputs, plan: { ...inputs.plan } })
  assert.equal(after.hostRoutes, before.hostRoutes)
  assert.equal(after.accepts, before.accepts)
  assert.equal(after.ruleset.parts.get(entry.id), before.ruleset.parts.get(entry.id))
  const moved = desire({ ...inputs, synthetic: new Map([[entry.id, '169.254.64.8']]) })
  assert.notEqual(moved.ruleset.parts.get(entry.id), before.ruleset.parts.get(entry.id))
})

test('the userspace proxy prefers endpoints elsewhere and falls back on those here', () => {
  const entry = planned([here], [there])
  assert.deepEqual(
    userspaceRoutesOf([entry], new Map([[entry.id, '169.254.64.7']])),
    new Map([
      ['169.254.64.7', { id: entry.id, protocol: 'tcp', preferred: [there], others: [here], policy: entry.policy }],
    ]),
  )
  assert.equal(userspaceRoutesOf([planned([here], [])], new Map()).size, 0)
})
