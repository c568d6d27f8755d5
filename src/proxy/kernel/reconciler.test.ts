import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Kernel, RulesetRejectedError } from '../../linux/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { allFeatures } from './iptables-features.ts'
import { iptablesRules } from './kernel-rules.ts'
import { createKernelReconciler, type DesiredKernelState } from './reconciler.ts'
import type { RulesetInput } from './render-ruleset.ts'

const { signal } = new AbortController()
/** Rules that are known by the address of their only ServicePort. */
const rulesNamed = (address: string, foreignInterfaces: readonly string[] = []): RulesetInput => ({
  servicePorts: new Map([
    [
      'web',
      {
        name: 'web',
        kind: 'random',
        destinations: [{ protocol: 'tcp', address, port: 80 }],
        slots: [],
        hairpins: [],
      },
    ],
  ]),
  syntheticRange: '169.254.64.0/19',
  bridgeAddress: '169.254.96.16',
  listenPorts: [24001],
  foreignInterfaces,
  servesForeign: false,
  switchedNetworks: [],
})
const desired: DesiredKernelState = {
  rules: rulesNamed('10.96.0.1'),
  accepts: { clusterNetworks: ['10.96.0.0/16'] },
  hostRoutes: { addresses: [] },
}
const plainly = (apply: () => Promise<void>) => apply()

/** A kernel that writes down what is done to it. */
function fakeKernel() {
  const done: string[] = []
  const state = { former: false, isInstalled: true, generation: 1, applyErrors: [] as Error[] }
  const kernel: Kernel = {
    applier: {
      check: async () => {},
      async apply(table) {
        const text = table.text()
        done.push(`${text.includes('delete table') ? 'replace' : 'apply'} ${/tcp \. (\S+)/.exec(text)?.[1]}`)
        const error = state.applyErrors.shift()
        if (error !== undefined) throw error
        state.isInstalled = true
        state.generation += 1
      },
      async update(change) {
        const text = change.text()
        done.push(`update ${[...text.matchAll(/tcp \. (\S+)/g)].map((match) => match[1]).join(' to ')}`)
        const error = state.applyErrors.shift()
        if (error !== undefined) throw error
        state.generation += 1
      },
      elementsOf: async () => [],
      isInstalled: async () => state.isInstalled,
      generation: async () => state.generation,
      way: () => 'nft',
      [Symbol.dispose]() {},
    },
    network: {
      ensureDevice: async () => false,
      removeDevice: async () => {},
      setHostRoutes: async (device, { addresses }) => void done.push(`routes ${device} ${addresses.join()}`),
      setNeighbourRoutes: async () => [],
      view: async () => ({ interfaces: [], defaultRouteInterfaces: [], defaultGateways: [], routes: [] }),
      watch: async () => ({ [Symbol.dispose]() {} }),
      [Symbol.dispose]() {},
    },
    findIptables: async () => [],
    async removeRulesBut(kind) {
      if (state.former) done.push(`remove all but ${kind}`)
      return []
    },
    sweepPortalChains: async () => [],
    conntrack: { forgetFlows: async () => 0, [Symbol.dispose]() {} },
    sets: { endsIn: async () => [], addressesIn: async () => new Set<string>(), [Symbol.dispose]() {} },
    firewalls: {
      async ensureAccepts({ clusterNetworks }) {
        done.push(`accepts ${clusterNetworks.join()}`)
        return ['inet other forward']
      },
      removeAccepts: async () => {},
    },
    cleanUp: async () => {},
    [Symbol.dispose]() {},
  }
  return { kernel, done, state, taken: () => done.splice(0) }
}

function setUp() {
  const fake = fakeKernel()
  const clock = { nowMs: 0 }
  const options = { logger: silentLogger, nowMs: () => clock.nowMs }
  return { ...fake, clock, reconciler: createKernelReconciler(fake.kernel, 'edgemesh0', options) }
}

test('what is as wanted is left alone', async () => {
  const { reconciler, taken } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken(), ['apply 10.96.0.1', 'routes edgemesh0 ', 'accepts 10.96.0.0/16'])
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken(), [])
  assert.deepEqual(reconciler.openedChains(), ['inet other forward'])
})

test('rules that others removed are applied again', async () => {
  const { reconciler, taken, state } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  state.isInstalled = false
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken(), ['apply 10.96.0.1', 'accepts 10.96.0.0/16'])
})

test('the caller can prepare for a change of the rules and clear up after it', async () => {
  const { reconciler, done } = setUp()
  const around = async (apply: () => Promise<void>) => {
    done.push('before')
    await apply()
    done.push('after')
  }
  await reconciler.reconcile(desired, around, signal)
  assert.deepEqual(done.slice(0, 3), ['before', 'apply 10.96.0.1', 'after'])
})

test('rules that failed are tried again, also when the text is the same', async () => {
  const { reconciler, taken, state } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  state.applyErrors = [new Error('no memory')]
  const changed = { ...desired, rules: rulesNamed('10.96.0.2') }
  await assert.rejects(reconciler.reconcile(changed, plainly, signal), /no memory/)
  await reconciler.reconcile(changed, plainly, signal)
  assert.deepEqual(taken().slice(0, 2), ['update 10.96.0.1 to 10.96.0.2', 'apply 10.96.0.2'])
})

test('a table of another shape is replaced', async () => {
  const { reconciler, taken, state } = setUp()
  state.applyErrors = [new RulesetRejectedError('Could not process rule: File exists', undefined)]
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken().slice(0, 2), ['apply 10.96.0.1', 'replace 10.96.0.1'])
})

test('rules that nft does not understand replace nothing', async () => {
  const { reconciler, taken, state } = setUp()
  state.applyErrors = [new RulesetRejectedError('syntax error', 'bad line')]
  await assert.rejects(reconciler.reconcile(desired, plainly, signal), /syntax error, in "bad line"/)
  assert.deepEqual(taken(), ['apply 10.96.0.1'])
})

test('host routes are looked at again after each change of the network', async () => {
  const { reconciler, taken } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  const hostRoutes = { addresses: ['10.96.0.10'] }
  await reconciler.reconcile({ ...desired, hostRoutes }, plainly, signal)
  await reconciler.reconcile({ ...desired, hostRoutes: { ...hostRoutes } }, plainly, signal)
  assert.deepEqual(taken(), ['routes edgemesh0 10.96.0.10', 'routes edgemesh0 10.96.0.10'])
})

test('firewalls are looked at when nftables changed, when other accepts are wanted, and every five seconds', async () => {
  const { reconciler, taken, state, clock } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  state.generation += 1
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken(), ['accepts 10.96.0.0/16'])
  const wider = { ...desired, accepts: { clusterNetworks: ['10.96.0.0/12'] } }
  await reconciler.reconcile(wider, plainly, signal)
  assert.deepEqual(taken(), ['accepts 10.96.0.0/12'])
  clock.nowMs += 4_999
  await reconciler.reconcile(wider, plainly, signal)
  assert.deepEqual(taken(), [])
  clock.nowMs += 1
  await reconciler.reconcile(wider, plainly, signal)
  assert.deepEqual(taken(), ['accepts 10.96.0.0/12'])
})

test('a change of elements is applied alone, and is no reason to look at firewalls again', async () => {
  const { reconciler, taken } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  await reconciler.reconcile({ ...desired, rules: rulesNamed('10.96.0.2') }, plainly, signal)
  assert.deepEqual(taken(), ['update 10.96.0.1 to 10.96.0.2'])
})

test('a ruleset that says the same is not applied, nor is a chain on a hook changed alone', async () => {
  const { reconciler, taken } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  await reconciler.reconcile({ ...desired, rules: rulesNamed('10.96.0.1') }, plainly, signal)
  assert.deepEqual(taken(), [])
  await reconciler.reconcile({ ...desired, rules: rulesNamed('10.96.0.1', ['eth0']) }, plainly, signal)
  assert.equal(taken()[0], 'apply 10.96.0.1')
})

test('a change that does not fit what the kernel holds is followed by the whole table', async () => {
  const { reconciler, taken, state } = setUp()
  await reconciler.reconcile(desired, plainly, signal)
  taken()
  state.applyErrors = [new RulesetRejectedError('Could not process rule: No such file or directory', undefined)]
  await reconciler.reconcile({ ...desired, rules: rulesNamed('10.96.0.2') }, plainly, signal)
  assert.deepEqual(taken().slice(0, 2), ['update 10.96.0.1 to 10.96.0.2', 'apply 10.96.0.2'])
})

test('what an earlier run made in another way is removed once, soon after the rules stand', async () => {
  const { reconciler, taken, state } = setUp()
  state.former = true
  await reconciler.reconcile(desired, plainly, signal)
  assert.equal(taken()[0], 'apply 10.96.0.1')
  await reconciler.reconcile(desired, plainly, signal)
  assert.deepEqual(taken(), ['remove all but nftables'])
  await reconciler.reconcile({ ...desired, rules: rulesNamed('10.96.0.2') }, plainly, signal)
  assert.deepEqual(taken(), ['update 10.96.0.1 to 10.96.0.2'])
})

test('rules of iptables are made without nftables; firewalls are opened only where accepts can be marked', async () => {
  for (const comment of [true, false]) {
    const { kernel, taken, state } = fakeKernel()
    state.former = true
    const fake = createFakeIptables()
    const rules = iptablesRules(fake, { ...allFeatures, comment }, 'asked for')
    const reconciler = createKernelReconciler(kernel, 'edgemesh0', { logger: silentLogger, rules })
    await reconciler.reconcile(desired, plainly, signal)
    await reconciler.reconcile(desired, plainly, signal)
    const accepts = comment ? ['accepts 10.96.0.0/16'] : []
    assert.deepEqual(taken(), ['routes edgemesh0 ', ...accepts, 'remove all but legacy'])
    const refused = { destination: '10.96.0.1', protocol: 'tcp', port: 80 } as const
    assert.equal(fake.verdict('filter', 'OUTPUT', refused), 'REJECT --reject-with tcp-reset')
  }
})
