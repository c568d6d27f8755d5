import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type RulesetInput, renderReplacement, renderRuleset } from './render-ruleset.ts'

const empty: RulesetInput = {
  servicePorts: [],
  localBackends: [],
  syntheticRange: '169.254.64.0/19',
  listenPort: 24001,
  dns: { address: '169.254.96.16', port: 53 },
  foreignInterfaces: ['eth0', 'wlan0'],
  switchedNetworks: [],
}
const web = { protocol: 'tcp', address: '10.96.0.10', port: 80 } as const
const dns = { protocol: 'udp', address: '10.96.0.11', port: 53 } as const

/** The lines of one chain, without the hook. */
function chain(ruleset: string, name: string): string[] {
  const body = ruleset.split(`  chain ${name} {\n`)[1]?.split('\n  }')[0] ?? assert.fail(`no chain ${name}`)
  return body.split('\n').map((line) => line.trim())
}

/** The elements that a map or set is filled with. */
function elements(ruleset: string, name: string): string[] {
  const body = ruleset.split(` ip edgemesh ${name} {\n`)[1]?.split('\n}')[0] ?? ''
  return body.split('\n').flatMap((line) => (line === '' ? [] : [line.trim().replace(/,$/, '')]))
}

test('each slot of a ServicePort is one element of its own map, chosen by a random number', () => {
  const slots = [
    { address: '10.244.1.2', port: 8080 },
    { address: '169.254.64.7', port: 24001 },
  ]
  const ruleset = renderRuleset({ ...empty, servicePorts: [{ destinations: [web], slots }] })
  assert.deepEqual(elements(ruleset, 'service'), ['tcp . 10.96.0.10 . 80 : jump slots-2'])
  assert.deepEqual(elements(ruleset, 'slot-0'), ['tcp . 10.96.0.10 . 80 : 10.244.1.2 . 8080'])
  assert.deepEqual(elements(ruleset, 'slot-1'), ['tcp . 10.96.0.10 . 80 : 169.254.64.7 . 24001'])
  assert.deepEqual(chain(ruleset, 'slots-2'), ['numgen random mod 2 vmap { 0 : goto slot-0, 1 : goto slot-1 }'])
  assert.deepEqual(chain(ruleset, 'slot-1'), ['dnat ip to meta l4proto . ip daddr . th dport map @slot-1'])
})

test('only the numbers of slots in use get a chain, however many ServicePorts there are', () => {
  const slot = { address: '10.244.1.2', port: 8080 }
  const ruleset = renderRuleset({
    ...empty,
    servicePorts: [
      { destinations: [web], slots: [slot] },
      { destinations: [dns], slots: [slot, slot, slot] },
    ],
  })
  assert.deepEqual(
    [...ruleset.matchAll(/chain (slots?-\d+)/g)].map((match) => match[1]),
    ['slot-0', 'slot-1', 'slot-2', 'slots-1', 'slots-3'],
  )
})

test('a ServicePort without slots is refused and not translated', () => {
  const ruleset = renderRuleset({ ...empty, servicePorts: [{ destinations: [web, dns], slots: [] }] })
  assert.deepEqual(elements(ruleset, 'service'), [])
  assert.deepEqual(elements(ruleset, 'refused'), ['tcp . 10.96.0.10 . 80', 'udp . 10.96.0.11 . 53'])
  assert.deepEqual(elements(ruleset, 'cluster-addresses'), [])
})

test('the table is never deleted, because established connections would lose their translation', () => {
  const ruleset = renderRuleset(empty)
  assert.doesNotMatch(ruleset, /delete/)
  assert.match(ruleset, /^add table ip edgemesh\nflush table ip edgemesh\n/)
  for (const name of ['service', 'refused', 'cluster-addresses', 'hairpin']) {
    assert.match(ruleset, new RegExp(`^flush (map|set) ip edgemesh ${name}$`, 'm'))
  }
})

test('a replacement makes the table anew before it is filled', () => {
  assert.ok(renderReplacement('X').endsWith('delete table ip edgemesh\nX'))
})

test('packets from foreign interfaces are neither translated nor refused', () => {
  const skip = 'iifname { "eth0", "wlan0" } return'
  const ruleset = renderRuleset(empty)
  assert.equal(chain(ruleset, 'prerouting')[1], skip)
  assert.equal(chain(ruleset, 'filter-forward')[1], skip)
  assert.ok(!chain(ruleset, 'output').includes(skip))
  assert.ok(!renderRuleset({ ...empty, foreignInterfaces: [] }).includes('iifname {'))
})

test('translation comes before the one of kube-proxy', () => {
  for (const name of ['prerouting', 'output']) {
    const priority = Number(/priority (-\d+);/.exec(chain(renderRuleset(empty), name)[0] ?? '')?.[1])
    assert.ok(priority < -100)
  }
})

test('the source is translated only where answers would miss this node', () => {
  const ruleset = renderRuleset({
    ...empty,
    localBackends: ['10.244.1.2', '10.244.1.2'],
    switchedNetworks: ['10.244.1.0/24'],
  })
  assert.deepEqual(elements(ruleset, 'hairpin'), ['10.244.1.2 . 10.244.1.2'])
  const rules = chain(ruleset, 'postrouting').filter((rule) => rule.endsWith('masquerade'))
  assert.deepEqual(rules, [
    'ip saddr . ip daddr @hairpin masquerade',
    'ip saddr 10.244.1.0/24 ip daddr 10.244.1.0/24 masquerade',
    'fib saddr type local fib saddr . oif type != local masquerade',
  ])
  assert.equal(chain(renderRuleset(empty), 'postrouting').filter((rule) => rule.endsWith('masquerade')).length, 2)
})

test('who knocks at the userspace proxy without our translation finds nothing', () => {
  assert.deepEqual(chain(renderRuleset({ ...empty, listenPort: 24005, dns: undefined }), 'filter-input').slice(1), [
    'ct status dnat return',
    'tcp dport 24005 drop',
    'ip daddr 169.254.64.0/19 drop',
  ])
})

test('questions from foreign interfaces are dropped, before anything lets them pass', () => {
  const drop = 'iifname { "eth0", "wlan0" } ip daddr 169.254.96.16 drop'
  assert.equal(chain(renderRuleset(empty), 'filter-input')[1], drop)
  assert.ok(!renderRuleset({ ...empty, foreignInterfaces: [] }).includes('ip daddr 169.254.96.16 drop'))
})

test('DNS on the bridge address is not tracked, and only where this node answers it', () => {
  assert.match(renderRuleset(empty), /ip daddr 169\.254\.96\.16 meta l4proto \{ tcp, udp \} th dport 53 notrack/)
  assert.doesNotMatch(renderRuleset({ ...empty, dns: undefined }), /notrack/)
})
