import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RulesetApplier, TrackedFlow } from '../../linux/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { allFeatures } from './iptables-features.ts'
import { createIptablesKeeper } from './iptables-keeper.ts'
import type { RulesetInput } from './render-ruleset.ts'
import { createRulesetKeeper, type RulesetKeeper } from './ruleset-keeper.ts'

const { signal } = new AbortController()
const plainly = (apply: () => Promise<void>) => apply()

/** One Service of UDP, with affinity, by the last numbers of its endpoints. */
function rulesTo(...endpoints: readonly number[]): RulesetInput {
  const slots = endpoints.map((last) => ({ address: `10.244.1.${last}`, port: 53 }))
  const destinations = [{ protocol: 'udp', address: '10.96.0.10', port: 53 } as const]
  const part = { name: 'dns', kind: 'random', slots, destinations, hairpins: [], affinitySeconds: 60 } as const
  return {
    servicePorts: new Map([['dns', part]]),
    syntheticRange: '169.254.64.0/19',
    bridgeAddress: '169.254.96.16',
    listenPorts: [24001],
    foreignInterfaces: [],
    servesForeign: false,
    switchedNetworks: [],
  }
}

/** A client of the Service, and who answers it. */
const flowTo = (address: string): TrackedFlow => ({
  protocol: 'udp',
  destination: { address: '10.96.0.10', port: 53 },
  answeredBy: { address, port: 53 },
})

function setUp() {
  const clock = { nowMs: 0 }
  const errors: Error[] = []
  const warnings: unknown[] = []
  const state = { isInstalled: true, flows: [] as TrackedFlow[], clients: [] as string[] }
  const mayFail = () => {
    const error = errors.shift()
    if (error !== undefined) throw error
  }
  const applier: RulesetApplier = {
    check: async () => {},
    async apply() {
      state.isInstalled = true
    },
    async update(change) {
      const text = change.text()
      if (text.includes('delete element ip edgemesh affinity')) state.clients = []
    },
    async elementsOf() {
      mayFail()
      return state.clients.map((value) => ({ key: 'udp . 10.96.0.10 . 53 . 10.244.9.9', value }))
    },
    isInstalled: async () => state.isInstalled,
    generation: async () => 1,
    way: () => 'nft',
    [Symbol.dispose]() {},
  }
  const conntrack = {
    async forgetFlows(matches: (flow: TrackedFlow) => boolean) {
      mayFail()
      state.flows = state.flows.filter((flow) => !matches(flow))
      return 0
    },
    [Symbol.dispose]() {},
  }
  const logger = { ...silentLogger, warn: (_fields: object, text: string) => void warnings.push(text) }
  const common = { conntrack, logger, nowMs: () => clock.nowMs }
  const iptables = createFakeIptables()
  const keepers: Readonly<Record<string, RulesetKeeper>> = {
    nftables: createRulesetKeeper({ ...common, applier, onOwnChange() {} }),
    iptables: createIptablesKeeper({ ...common, iptables, features: allFeatures, generation: async () => 1 }),
  }
  return { keepers, clock, errors, warnings, state, iptables }
}

for (const kind of ['nftables', 'iptables']) {
  test(`flows that could not be forgotten are forgotten later, though the rules stand: ${kind}`, async () => {
    const { keepers, clock, errors, warnings, state } = setUp()
    const keep = async (rules: RulesetInput) => await keepers[kind]?.keep(rules, plainly, signal)
    await keep(rulesTo(2, 3))
    state.flows = [flowTo('10.244.1.2'), flowTo('10.244.1.3')]
    errors.push(new Error('not now'), new Error('not now'), new Error('not now'))
    const rules = rulesTo(3)
    await keep(rules)
    assert.equal(state.flows.length, 2)
    for (let look = 0; look < 3; look++) {
      clock.nowMs += 60_000
      await keep(rules)
    }
    assert.deepEqual(state.flows, [flowTo('10.244.1.3')])
    assert.ok(warnings.length > 0 && warnings.length <= 2, `told ${warnings.length} times`)
  })
}

test('flows that began while the table was gone are forgotten when it is repaired', async () => {
  const { keepers, state } = setUp()
  const rules = rulesTo(2)
  await keepers['nftables']?.keep(rules, plainly, signal)
  state.flows = [flowTo('10.96.0.10'), flowTo('10.244.1.2')]
  state.isInstalled = false
  await keepers['nftables']?.keep(rules, plainly, signal)
  assert.deepEqual(state.flows, [flowTo('10.244.1.2')])
})

test('clients that are remembered for an endpoint that is gone are forgotten later when that failed', async () => {
  const { keepers, clock, errors, state } = setUp()
  const keep = async (rules: RulesetInput) => await keepers['nftables']?.keep(rules, plainly, signal)
  await keep(rulesTo(2, 3))
  state.clients = ['10.244.1.2 . 53']
  errors.push(new Error('nft was killed'))
  const rules = rulesTo(3)
  await keep(rules)
  assert.equal(state.clients.length, 1)
  clock.nowMs += 60_000
  await keep(rules)
  assert.deepEqual(state.clients, [])
})
