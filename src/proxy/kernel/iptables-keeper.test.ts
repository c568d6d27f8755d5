import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TrackedFlow } from '../../linux/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { allFeatures } from './iptables-features.ts'
import { createIptablesKeeper } from './iptables-keeper.ts'
import type { RulesetInput } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

const { signal } = new AbortController()
const plainly = (apply: () => Promise<void>) => apply()

const entryOf = (address: string, protocol: 'tcp' | 'udp' = 'tcp'): RuledServicePort => ({
  name: `shop/${address}`,
  kind: 'random',
  slots: [
    { address: '10.244.1.2', port: 80 },
    { address: '10.244.1.3', port: 80 },
  ],
  destinations: [{ protocol, address, port: 80 }],
  hairpins: [],
})
const inputOf = (...entries: readonly RuledServicePort[]): RulesetInput => ({
  servicePorts: new Map(entries.map((entry) => [entry.name, entry])),
  syntheticRange: '169.254.64.0/19',
  listenPorts: [24001],
  bridgeAddress: '169.254.96.16',
  foreignInterfaces: ['eth0'],
  servesForeign: false,
  switchedNetworks: [],
})
const [web, api] = [entryOf('10.96.0.10'), entryOf('10.96.0.11')]

function setUp(kind: 'legacy' | 'nft' = 'legacy') {
  const fake = createFakeIptables(kind)
  const state = { nowMs: 0, generation: 1 }
  const asked: TrackedFlow[] = []
  const stale: boolean[] = []
  const keeper = createIptablesKeeper({
    iptables: fake,
    features: allFeatures,
    conntrack: {
      async forgetFlows(matches) {
        stale.push(...asked.map(matches))
        return 0
      },
      [Symbol.dispose]() {},
    },
    logger: silentLogger,
    generation: async () => state.generation,
    nowMs: () => state.nowMs,
  })
  const reaches = (destination: string) =>
    fake.verdict('nat', 'PREROUTING', { destination, protocol: 'tcp', port: 80 }).startsWith('DNAT')
  return { fake, keeper, state, asked, stale, reaches, taken: () => fake.texts.splice(0) }
}

test('all is installed once, and then only the chains that changed are sent', async () => {
  const { keeper, reaches, taken } = setUp()
  const first = inputOf(web)
  await keeper.keep(first, plainly, signal)
  assert.match(taken().join(), /-I PREROUTING -j EDGEMESH-PREROUTING/)
  await keeper.keep(first, plainly, signal)
  assert.deepEqual(taken(), [])
  await keeper.keep(inputOf(web, api), plainly, signal)
  const [text = ''] = taken()
  assert.doesNotMatch(text, /filter|-I |EDGEMESH-(PREROUTING|OUTPUT|SERVICES)/)
  assert.match(text, /:EDGEMESH-CLUSTER/)
  assert.ok(reaches('10.96.0.10') && reaches('10.96.0.11'))
})

test('rules that say the same are not sent, and the caller is not asked', async () => {
  const { keeper, taken } = setUp()
  await keeper.keep(inputOf(web), plainly, signal)
  taken()
  await keeper.keep(inputOf(structuredClone(web)), () => assert.fail('there is nothing to change'), signal)
  assert.deepEqual(taken(), [])
})

test('what others emptied is repaired, and who came before us is put behind us', async () => {
  for (const kind of ['legacy', 'nft'] as const) {
    const { fake, keeper, state, reaches } = setUp(kind)
    const wanted = inputOf(web)
    await keeper.keep(wanted, plainly, signal)
    for (const text of [
      '*nat\n-F PREROUTING\nCOMMIT\n',
      '*nat\n-F EDGEMESH-PREROUTING\nCOMMIT\n',
      '*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -p tcp -j DNAT --to-destination 192.0.2.1:80\n-I PREROUTING -j KUBE-SERVICES\nCOMMIT\n',
    ]) {
      fake.run(text)
      state.nowMs += 1_000
      state.generation += 1
      await keeper.keep(wanted, plainly, signal)
      assert.ok(reaches('10.96.0.10'))
      assert.equal(fake.tables.get('nat')?.get('PREROUTING')?.[0], '-j EDGEMESH-PREROUTING')
    }
  }
})

test('looking costs a process, so that the old tables are looked at twice a second and the new ones when they changed', async () => {
  for (const kind of ['legacy', 'nft'] as const) {
    const { fake, keeper, state } = setUp(kind)
    let looks = 0
    const { rulesOf } = fake
    fake.rulesOf = async (...asked) => {
      looks += 1
      return await rulesOf(...asked)
    }
    const wanted = inputOf(web)
    await keeper.keep(wanted, plainly, signal)
    for (let round = 0; round < 10; round++) await keeper.keep(wanted, plainly, signal)
    assert.equal(looks, 1, kind)
    if (kind === 'legacy') state.nowMs += 500
    else state.generation += 1
    await keeper.keep(wanted, plainly, signal)
    assert.equal(looks, 2, kind)
  }
})

test('a change that does not fit what the kernel holds is followed by all rules', async () => {
  const { fake, keeper, reaches } = setUp()
  await keeper.keep(inputOf(web, api), plainly, signal)
  const chains = [...(fake.tables.get('nat')?.keys() ?? [])].filter((name) => name.startsWith('EDGEMESH-S-'))
  assert.equal(chains.length, 2)
  const removals = chains.map((chain) => `-F ${chain}\n-X ${chain}\n`).join('')
  fake.run(`*nat\n-F EDGEMESH-CLUSTER\n${removals}COMMIT\n`)
  await keeper.keep(inputOf(api), plainly, signal)
  await keeper.keep(inputOf(), plainly, signal)
  await keeper.keep(inputOf(web), plainly, signal)
  assert.ok(reaches('10.96.0.10') && !reaches('10.96.0.11'))
})

test('rules that failed are tried again as a whole', async () => {
  const { fake, keeper, reaches } = setUp()
  await keeper.keep(inputOf(web), plainly, signal)
  fake.refusals.add('10.96.0.11')
  const wanted = inputOf(web, api)
  await assert.rejects(keeper.keep(wanted, plainly, signal), /no 10\.96\.0\.11/)
  assert.ok(reaches('10.96.0.10'))
  fake.refusals.clear()
  await keeper.keep(wanted, plainly, signal)
  assert.ok(reaches('10.96.0.11'))
})

test('UDP flows to where no rule leads any more are forgotten', async () => {
  const { keeper, asked, stale } = setUp()
  const destination = { address: '10.96.0.53', port: 80 }
  const names = entryOf(destination.address, 'udp')
  asked.push({ protocol: 'udp', destination, answeredBy: { address: '10.244.1.2', port: 80 } })
  await keeper.keep(inputOf(names), plainly, signal)
  await keeper.keep(inputOf({ ...names, slots: names.slots.slice(1) }), plainly, signal)
  assert.deepEqual(stale, [false, true])
})

test('nothing tells of changes of the old tables, nftables tells of the new ones', async () => {
  assert.equal(await setUp('legacy').keeper.generation(signal), 0)
  assert.equal(await setUp('nft').keeper.generation(signal), 1)
})
