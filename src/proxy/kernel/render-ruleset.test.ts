import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFakeNft } from './fake-nft.fixture.ts'
import { renderTable } from './nft-table.ts'
import { type RulesetInput, rulesetOf } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

const empty: RulesetInput = {
  servicePorts: new Map(),
  syntheticRange: '169.254.64.0/19',
  bridgeAddress: '169.254.96.16',
  listenPorts: [24001],
  dns: { address: '169.254.96.16', port: 53 },
  foreignInterfaces: ['eth0', 'wlan0'],
  servesForeign: false,
  switchedNetworks: [],
}
const web = { protocol: 'tcp', address: '10.96.0.10', port: 80 } as const
const served = { destinations: [web], slots: [{ address: '10.244.1.2', port: 8080 }] }
const dns = { protocol: 'udp', address: '10.96.0.11', port: 53 } as const

const renderRulesetText = (input: RulesetInput): string => renderTable(rulesetOf(input))

/** What nft holds with these ServicePorts. */
function nftWith(
  input: RulesetInput,
  ...servicePorts: readonly (Pick<RuledServicePort, 'slots'> & Partial<RuledServicePort>)[]
) {
  const nft = createFakeNft()
  const entries = servicePorts.map(
    (entry, at) =>
      [String(at), { name: `shop/${at}:80/tcp`, kind: 'random', destinations: [], hairpins: [], ...entry }] as const,
  )
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
  const outside = 'iifname { "eth0", "wlan0" } goto outside'
  const nft = nftWith(empty)
  assert.equal(nft.chain('prerouting')[1], outside)
  assert.deepEqual(nft.chain('outside'), [])
  assert.equal(nft.chain('filter-forward')[5], 'iifname { "eth0", "wlan0" } return')
  assert.ok(!nft.chain('output').includes(outside))
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
  const rules = nft.chain('sources').filter((rule) => rule.endsWith('masquerade'))
  assert.deepEqual(rules, [
    'ip saddr . ip daddr @hairpin masquerade',
    'ip saddr 10.244.1.0/24 ip daddr 10.244.1.0/24 masquerade',
    'fib saddr type local fib saddr . oif type != local masquerade',
  ])
  assert.equal(
    nftWith(empty)
      .chain('sources')
      .filter((rule) => rule.endsWith('masquerade')).length,
    2,
  )
})

test('who knocks at the userspace proxy without our translation finds nothing', () => {
  assert.deepEqual(
    nftWith({ ...empty, listenPorts: [24005], dns: undefined })
      .chain('filter-input')
      .slice(2),
    [
      'iifname { "eth0", "wlan0" } ip daddr 169.254.96.16 drop',
      'ct status dnat return',
      'tcp dport { 24005 } drop',
      'ip daddr 169.254.64.0/19 drop',
    ],
  )
})

test('resets that answer a translated connection are written down, where clients are and where they pass', () => {
  for (const chain of ['filter-forward', 'filter-input']) {
    assert.match(nftWith(empty).chain(chain)[1] ?? '', /^tcp flags .* tcp sequence 0 .* add @refusing /)
  }
  const text = renderRulesetText(empty)
  assert.match(text, /set refusing \{[^}]*timeout 2s/)
  assert.doesNotMatch(text, /flush set ip edgemesh refusing/)
})

test('endpoints to which connections begin, or datagrams go, are written down, but not the proxy', () => {
  for (const chain of ['filter-forward', 'filter-output']) {
    const rules = nftWith(empty).chain(chain)
    const established = rules.indexOf('ct state established,related return')
    const note = 'ct status dnat ip daddr != 169.254.64.0/19 add @contacted { ip daddr }'
    assert.equal(rules[established - 1], `meta l4proto udp ct direction original ${note}`)
    assert.equal(rules[established + 1], note)
  }
  const text = renderRulesetText(empty)
  assert.match(text, /set contacted \{[^}]*timeout 2s/)
  assert.doesNotMatch(text, /flush set ip edgemesh contacted/)
})

test('neighbours reach nothing at the bridge address, also where it is not DNS that listens there', () => {
  const drop = 'iifname { "eth0", "wlan0" } ip daddr 169.254.96.16 drop'
  assert.equal(nftWith(empty).chain('filter-input')[2], drop)
  assert.equal(nftWith({ ...empty, dns: undefined }).chain('filter-input')[2], drop)
  assert.ok(!renderTable(rulesetOf({ ...empty, foreignInterfaces: [] })).includes('ip daddr 169.254.96.16 drop'))
})

test('DNS on the bridge address is not tracked, and only where this node answers it', () => {
  assert.match(renderRulesetText(empty), /ip daddr 169\.254\.96\.16 meta l4proto \{ tcp, udp \} th dport 53 notrack/)
  assert.doesNotMatch(renderRulesetText({ ...empty, dns: undefined }), /notrack/)
})

const web2 = { address: '10.244.1.3', port: 8080 }
const choice = { name: 'shop/web:80/tcp', slots: [...served.slots, web2], kind: 'random' } as const

test('round robin counts in a chain of its own, because counters of several ServicePorts would disturb each other', () => {
  const nft = nftWith(empty, { ...choice, destinations: [web], kind: 'turns' })
  assert.deepEqual(nft.elements('service'), ['tcp . 10.96.0.10 . 80 : jump turns-shop/web_80/tcp'])
  assert.deepEqual(nft.chain('turns-shop/web_80/tcp'), [
    'meta l4proto { tcp, udp } dnat ip to numgen inc mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.1.3 . 8080 }',
  ])
  assert.deepEqual(nft.elements('slot-0'), [])
})

test('hashing of client addresses has a fixed seed', () => {
  const nft = nftWith(empty, { ...choice, destinations: [web], kind: 'source' })
  const [rule = ''] = nft.chain('source-shop/web_80/tcp')
  assert.match(
    rule,
    /^meta l4proto \{ tcp, udp \} dnat ip to jhash ip saddr mod 512 seed 0x656d map \{ 0 : 10\.244\.1\.[23] \. 8080, 1 : /,
  )
})

test('with affinity a client is looked up before a slot is chosen, and written down after', () => {
  const nft = nftWith(empty, { ...choice, destinations: [web, dns], affinitySeconds: 30 })
  assert.deepEqual(nft.elements('service').slice(0, 1), ['tcp . 10.96.0.10 . 80 : jump sticky-2'])
  assert.deepEqual(nft.elements('sticky-for-30'), ['tcp . 10.96.0.10 . 80', 'udp . 10.96.0.11 . 53'])
  assert.deepEqual(nft.chain('sticky-2'), [
    'dnat ip to meta l4proto . ip daddr . th dport . ip saddr map @affinity',
    'numgen random mod 2 vmap { 0 : goto slot-0, 1 : goto slot-1 }',
  ])
  assert.deepEqual(
    nft.chain('remember').map((rule) => /^meta l4proto (\w+) .* timeout (\d+)s/.exec(rule)?.slice(1)),
    [
      ['tcp', '30'],
      ['udp', '30'],
    ],
  )
  assert.doesNotMatch(renderRulesetText({ ...empty, servicePorts: new Map() }), /affinity/)
})

test('what clients were given is not forgotten when the table is installed again', () => {
  const entry = { ...choice, destinations: [web], hairpins: [], affinitySeconds: 30 }
  const text = renderRulesetText({ ...empty, servicePorts: new Map([['web', entry]]) })
  assert.match(text, /map affinity \{/)
  assert.doesNotMatch(text, /flush map ip edgemesh affinity/)
})

const external = {
  protocol: 'tcp',
  destinations: [{ protocol: 'tcp', address: '203.0.113.5', port: 80 }],
  nodePort: 30080,
  choice,
} as const

test('external addresses and node ports are looked up for everybody, ClusterIPs for who is inside', () => {
  const nft = nftWith(empty, { ...choice, destinations: [web], external })
  assert.deepEqual(nft.elements('external'), ['tcp . 203.0.113.5 . 80 : jump slots-2'])
  assert.deepEqual(nft.elements('node-port'), ['tcp . 30080 : jump port-slots-2'])
  assert.deepEqual(nft.elements('port-slot-1'), ['tcp . 30080 : 10.244.1.3 . 8080'])
  assert.ok(nft.chain('outside').every((rule) => !rule.includes('@service')))
  assert.ok(nft.chain('outside').some((rule) => rule.endsWith('@external')))
  const inside = nft.chain('services').join('\n')
  for (const name of ['service', 'external', 'node-port']) assert.ok(inside.includes(`vmap @${name}`), name)
})

test('with an external policy of its own, who comes from outside finds that first, and is dropped without an endpoint', () => {
  const some = { ...external, outside: { ...choice, slots: [web2] } }
  const nft = nftWith(empty, { ...choice, destinations: [web], external: some })
  assert.deepEqual(nft.elements('outside'), ['tcp . 203.0.113.5 . 80 : jump outside-slots-1'])
  assert.deepEqual(nft.elements('outside-port-slot-0'), ['tcp . 30080 : 10.244.1.3 . 8080'])
  const names = nft.chain('outside').map((rule) => rule.split('@').at(-1))
  assert.ok(names.indexOf('outside') < names.indexOf('external'))
  const none = { ...external, outside: { ...choice, slots: [] } }
  assert.deepEqual(nftWith(empty, { ...choice, destinations: [web], external: none }).elements('outside-port'), [
    'tcp . 30080 : drop',
  ])
})

test('a ServicePort without endpoints is refused at its external addresses and its node port, to everybody', () => {
  const nft = nftWith(empty, {
    slots: [],
    destinations: [web],
    external: { ...external, choice: { ...choice, slots: [] } },
  })
  assert.deepEqual(nft.elements('refused-external'), ['tcp . 203.0.113.5 . 80'])
  assert.deepEqual(nft.elements('refused-port'), ['tcp . 30080'])
  assert.deepEqual(nft.elements('node-port'), [])
  const forward = nft.chain('filter-forward')
  const at = (text: string) => forward.findIndex((rule) => rule.includes(text))
  assert.ok(at('@refused-external') < at('iifname') && at('iifname') < at('@refused '))
})

test('addresses of load balancers let only the networks pass that they are for', () => {
  const guard = { destinations: external.destinations, networks: ['192.168.0.0/16', '10.0.0.0/8'] }
  const nft = nftWith(empty, { ...choice, destinations: [web], external: { ...external, guard } })
  assert.deepEqual(nft.elements('guarded'), ['tcp . 203.0.113.5 . 80'])
  assert.deepEqual(nft.elements('source-ranges'), [
    'tcp . 203.0.113.5 . 80 . 192.168.0.0/16',
    'tcp . 203.0.113.5 . 80 . 10.0.0.0/8',
  ])
  for (const name of ['services', 'outside'])
    assert.match(nft.chain(name)[0] ?? '', /@guarded .* != @source-ranges drop$/)
})

test('a node port at a loopback address leads to the userspace proxy', () => {
  const loopback = { address: '169.254.64.7', port: 24001 }
  const nft = nftWith(empty, { ...choice, destinations: [web], external: { ...external, loopback } })
  assert.deepEqual(nft.elements('loopback-port'), ['tcp . 30080 : 169.254.64.7 . 24001'])
})
