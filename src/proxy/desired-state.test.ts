import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bothOf,
  createDesiredStateMaker,
  createRouteMaker,
  hasLostRoutes,
  type ProxyInputs,
  userspaceRoutesOf,
} from './desired-state.ts'
import type { DesiredKernelState } from './kernel/reconciler.ts'
import { createPlaces } from './places.fixture.ts'
import type { PlannedServicePort } from './service-plan.ts'
import { placeKeyOf } from './synthetic-addresses.ts'

const here = { nodeName: 'edge-a1', address: '10.244.1.2', port: 8080 }
const there = { nodeName: 'edge-b1', address: '10.244.2.2', port: 8080 }
const yonder = { nodeName: 'edge-c1', address: '10.244.3.2', port: 8080 }

function planned(direct: PlannedServicePort['direct'], userspace: PlannedServicePort['userspace']): PlannedServicePort {
  const destinations = [{ protocol: 'tcp', address: '10.96.0.10', port: 80 }] as const
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  return { id: 'shop/web:80/tcp', destinations, direct, userspace, reserve: direct, policy }
}

const facts = { foreignInterfaces: ['eth0'], switchedNetworks: [], hasDefaultRoute: true, nodeAddress: '192.168.1.11' }

const at = createPlaces()

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
    synthetic: entry.userspace.length > 0 ? new Map([[entry.id, at('169.254.64.7')]]) : new Map(),
    facts,
    syntheticRange: '169.254.64.0/19',
    bridgeAddress: '169.254.96.16',
    listenPorts: [24001],
    dns: undefined,
    clients: 'local',
    isDraining: false,
    ...changed,
  }
}

/** Where the slots of the only ServicePort lead; "refused" without any. */
function slotsIn({ rules }: DesiredKernelState): string[] | 'refused' {
  const slots = rules.servicePorts.get('shop/web:80/tcp')?.slots.map(({ address }) => address) ?? []
  return slots.length === 0 ? 'refused' : slots
}

const servesForeign = ({ rules }: DesiredKernelState): boolean => rules.servesForeign

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
  assert.equal(after.rules.servicePorts.get(entry.id), before.rules.servicePorts.get(entry.id))
  const moved = desire({ ...inputs, synthetic: new Map([[entry.id, at('169.254.64.8')]]) })
  assert.notEqual(moved.rules.servicePorts.get(entry.id), before.rules.servicePorts.get(entry.id))
})

test('the userspace proxy prefers endpoints elsewhere and falls back on those here', () => {
  const entry = planned([here], [there])
  assert.deepEqual(
    userspaceRoutesOf([entry], new Map([[entry.id, at('169.254.64.7')]])),
    new Map([
      [
        '169.254.64.7:24001',
        {
          id: entry.id,
          protocol: 'tcp',
          place: at('169.254.64.7'),
          preferred: [there],
          others: [here],
          policy: entry.policy,
        },
      ],
    ]),
  )
  assert.equal(userspaceRoutesOf([planned([here], [])], new Map()).size, 0)
})

/** ServicePorts of which some come, go, change, or move to other addresses, in steps that are the same each time. */
function* histories() {
  const entryOf = (which: number, version: number): PlannedServicePort => {
    const plain = planned(version % 3 === 0 ? [here] : [], version % 2 === 0 ? [there] : [yonder])
    return { ...plain, id: `shop/service-${which}:80/tcp` }
  }
  let entries = Array.from({ length: 60 }, (_, which) => entryOf(which, 0))
  for (let step = 1; step <= 40; step++) {
    const changed = (step * 17) % 60
    const place = changed % entries.length
    const { id = '' } = entries[place] ?? {}
    if (step % 4 === 0) entries = entries.toSpliced(place, 1)
    else if (step % 4 === 1) entries = [...entries.toSpliced(place, 1), entryOf(100 + step, step)]
    else entries = entries.with(place, { ...entryOf(0, step), id })
    const shift = Math.floor(step / 10)
    yield { entries, synthetic: new Map(entries.map(({ id }, place) => [id, at(`169.254.64.${place + shift}`)])) }
  }
}

test('rules and routes that were brought up to date step by step are those that would be made at once', () => {
  const desire = createDesiredStateMaker()
  const routesOf = createRouteMaker()
  for (const { entries, synthetic } of histories()) {
    const [entry = planned([], [])] = entries
    const inputs = inputsOf(entry, { synthetic })
    const wanted = { ...inputs, plan: { ...inputs.plan, servicePorts: entries } }
    assert.deepEqual(
      new Map(desire(wanted).rules.servicePorts),
      new Map(createDesiredStateMaker()(wanted).rules.servicePorts),
    )
    assert.deepEqual(new Map(routesOf({ entries, synthetic })), userspaceRoutesOf(entries, synthetic))
  }
})

test('a change of one ServicePort leaves the rules and routes of all others the same objects', () => {
  const ids = Array.from({ length: 50 }, (_, which) => `shop/service-${which}:80/tcp`)
  const entries = ids.map((id) => ({ ...planned([here], [there]), id }))
  const synthetic = new Map(ids.map((id, which) => [id, at(`169.254.64.${which}`)]))
  const changed = entries.with(7, { ...planned([], [yonder]), id: ids[7] ?? '' })
  const desire = createDesiredStateMaker()
  const routesOf = createRouteMaker()
  const stateOf = (servicePorts: readonly PlannedServicePort[]) => {
    const inputs = inputsOf(planned([], []), { synthetic })
    return desire({ ...inputs, plan: { ...inputs.plan, servicePorts } }).rules.servicePorts
  }
  const [parts, routes] = [stateOf(entries), routesOf({ entries, synthetic })]
  const [nextParts, nextRoutes] = [stateOf(changed), routesOf({ entries: changed, synthetic })]
  for (const [which, id] of ids.entries()) {
    const key = placeKeyOf(synthetic.get(id) ?? assert.fail())
    assert.equal(nextParts.get(id) === parts.get(id), which !== 7, id)
    assert.equal(nextRoutes.get(key) === routes.get(key), which !== 7, key)
  }
  assert.equal(stateOf([...changed]), nextParts)
  assert.equal(routesOf({ entries: [...changed], synthetic }), nextRoutes)
})

test('until new rules stand the routes that they drop are kept beside the new ones', () => {
  const [web, api] = ['web', 'api'].map((id) => ({ ...planned([], [there]), id }))
  assert.ok(web !== undefined && api !== undefined)
  const routesOf = createRouteMaker()
  const synthetic = new Map(Object.entries({ web: at('169.254.64.1'), api: at('169.254.64.2') }))
  const before = routesOf({ entries: [web], synthetic })
  const after = routesOf({ entries: [api], synthetic })
  assert.deepEqual([...bothOf(before, after).values()].map(({ id }) => id).sort(), ['api', 'web'])
  assert.equal(bothOf(undefined, after), after)
  assert.ok(hasLostRoutes(before, after))
  assert.ok(!hasLostRoutes(after, bothOf(before, after)))
})
