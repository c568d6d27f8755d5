import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFakeNft } from './fake-nft.fixture.ts'
import { renderTable } from './nft-table.ts'
import { type RuledServicePort, type RulesetInput, rulesetOf } from './render-ruleset.ts'

const empty: RulesetInput = {
  servicePorts: new Map(),
  syntheticRange: '169.254.64.0/19',
  listenPort: 24001,
  dns: { address: '169.254.96.16', port: 53 },
  foreignInterfaces: ['eth0', 'wlan0'],
  switchedNetworks: [],
}
const web = { protocol: 'tcp', address: '10.96.0.10', port: 80 } as const
const served = { destinations: [web], slots: [{ address: '10.244.1.2', port: 8080 }] }
const dns = { protocol: 'udp', address: '10.96.0.11', port: 53 } as const

const renderRulesetText = (input: RulesetInput): string => renderTable(rulesetOf(input))

/** What nft holds with these ServicePorts. */
function nftWith(
  input: RulesetInput,
  ...servicePorts: readonly (Omit<RuledServicePort, 'hairpins'> & { hairpins?: string[] })[]
) {
  const nft = createFakeNft()
  const entries = servicePorts.map((entry, at) => [String(at), { hairpins: [], ...entry }] as const)
  nft.run(renderTable(rulesetOf({ ...input, servicePorts: new Map(entries) })))
  return { ...nft, chain: (name: string) => nft.chains.get(name) ?? assert.fail(`no chain ${name}`) }
}

test('each slot of a ServicePort is one element of its own map, chosen by a random number', () => {
  const slots = [
    { address: '10.244.1.2', port: 8080 },
    { address: '169.254.64.7', port: 24001 },
  ]
  const nft = nftWith(empty, { destinations: [web], slots })
  assert.deepEqual(nft.elements('service'), ['tcp . 10.96.0.10 . 80 : jump slots-2'])
  assert.deepEqual(nft.elements('slot-0'), ['tcp . 10.96.0.10 . 80 : 10.244.1.2 . 8080'])
  assert.deepEqual(nft.elements('slot-1'), ['tcp . 10.96.0.10 . 80 : 169.254.64.7 . 24001'])
  assert.deepEqual(nft.chain('slots-2'), ['numgen random mod 2 vmap { 0 : goto slot-0, 1 : goto slot-1 }'])
  assert.deepEqual(nft.chain('slot-1'), ['dnat ip to meta l4proto . ip daddr . th dport map @slot-1'])
})

test('only the numbers of slots in use get a chain, however many ServicePorts there are', () => {
  const slot = { address: '10.244.1.2', port: 8080 }
  const nft = nftWith(empty, { destinations: [web], slots: [slot] }, { destinations: [dns], slots: [slot, slot, slot] })
  assert.deepEqual(
    [...nft.chains.keys()].filter((name) => name.startsWith('slot')),
    ['slot-0', 'slot-1', 'slot-2', 'slots-1', 'slots-3'],
  )
})

test('a ServicePort without slots is refused and not translated', () => {
  const nft = nftWith(empty, { destinations: [web, dns], slots: [] })
  assert.deepEqual(nft.elements('service'), [])
  assert.deepEqual(nft.elements('refused'), ['tcp . 10.96.0.10 . 80', 'udp . 10.96.0.11 . 53'])
  assert.deepEqual(nft.elements('cluster-addresses'), [])
})

test('packets from foreign interfaces are neither translated nor refused', () => {
  const skip = 'iifname { "eth0", "wlan0" } return'
  const nft = nftWith(empty)
  assert.equal(nft.chain('prerouting')[1], skip)
  assert.equal(nft.chain('filter-forward')[2], skip)
  assert.ok(!nft.chain('output').includes(skip))
  assert.ok(!renderTable(rulesetOf({ ...empty, foreignInterfaces: [] })).includes('iifname {'))
})

test('translation comes before the one of kube-proxy', () => {
  for (const name of ['prerouting', 'output']) {
    const priority = Number(/priority (-\d+);/.exec(nftWith(empty).chain(name)[0] ?? '')?.[1])
    assert.ok(priority < -100)
  }
})

test('the source is translated only where answers would miss this node', () => {
  const nft = nftWith(
    { ...empty, switchedNetworks: ['10.244.1.0/24'] },
    { ...served, hairpins: ['10.244.1.2 . 10.244.1.2'] },
  )
  assert.deepEqual(nft.elements('hairpin'), ['10.244.1.2 . 10.244.1.2'])
  const rules = nft.chain('postrouting').filter((rule) => rule.endsWith('masquerade'))
  assert.deepEqual(rules, [
    'ip saddr . ip daddr @hairpin masquerade',
    'ip saddr 10.244.1.0/24 ip daddr 10.244.1.0/24 masquerade',
    'fib saddr type local fib saddr . oif type != local masquerade',
  ])
  assert.equal(
    nftWith(empty)
      .chain('postrouting')
      .filter((rule) => rule.endsWith('masquerade')).length,
    2,
  )
})

test('who knocks at the userspace proxy without our translation finds nothing', () => {
  assert.deepEqual(
    nftWith({ ...empty, listenPort: 24005, dns: undefined })
      .chain('filter-input')
      .slice(1),
    ['ct status dnat return', 'tcp dport 24005 drop', 'ip daddr 169.254.64.0/19 drop'],
  )
})

test('questions from foreign interfaces are dropped, before anything lets them pass', () => {
  const drop = 'iifname { "eth0", "wlan0" } ip daddr 169.254.96.16 drop'
  assert.equal(nftWith(empty).chain('filter-input')[1], drop)
  assert.ok(!renderTable(rulesetOf({ ...empty, foreignInterfaces: [] })).includes('ip daddr 169.254.96.16 drop'))
})

test('DNS on the bridge address is not tracked, and only where this node answers it', () => {
  assert.match(renderRulesetText(empty), /ip daddr 169\.254\.96\.16 meta l4proto \{ tcp, udp \} th dport 53 notrack/)
  assert.doesNotMatch(renderRulesetText({ ...empty, dns: undefined }), /notrack/)
})
