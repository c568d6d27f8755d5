import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { allFeatures, type IptablesFeatures } from './iptables-features.ts'
import { createIptablesRendering } from './iptables-rules.ts'
import { hooksOf, renderInstallation } from './iptables-text.ts'
import type { FakePacket } from './iptables-walk.fixture.ts'
import type { RulesetInput } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'
import { sampleRules } from './sample-rules.ts'

const empty: RulesetInput = {
  servicePorts: new Map(),
  syntheticRange: '169.254.64.0/19',
  listenPorts: [24001],
  bridgeAddress: '169.254.96.16',
  dns: { address: '169.254.96.16', port: 53 },
  foreignInterfaces: ['eth0', 'wlan0'],
  servesForeign: false,
  switchedNetworks: [],
}
const web = { protocol: 'tcp', address: '10.96.0.10', port: 80 } as const
const here = { address: '10.244.1.2', port: 8080 }
const second = { address: '10.244.1.3', port: 8080 }
const proxy = { address: '169.254.64.7', port: 24001 }
const toHere = 'DNAT --to-destination 10.244.1.2:8080'
const toSecond = 'DNAT --to-destination 10.244.1.3:8080'
const toProxy = 'DNAT --to-destination 169.254.64.7:24001'
const choice = { name: 'shop/web:80/tcp', slots: [here], kind: 'random' } as const
const node = '192.168.1.11'

/** What iptables holds with these ServicePorts. */
function iptablesWith(
  input: RulesetInput,
  servicePorts: readonly Partial<RuledServicePort>[] = [],
  { features = allFeatures, random = () => 0.5 }: { features?: IptablesFeatures; random?: () => number } = {},
) {
  const fake = createFakeIptables('legacy', { random })
  const entries = servicePorts.map(
    (entry, at) => [String(at), { ...choice, destinations: [web], hairpins: [], ...entry }] as const,
  )
  const rules = createIptablesRendering(features)({ ...input, servicePorts: new Map(entries) })
  fake.run(renderInstallation(rules, new Map()))
  const packet = (changed: Partial<FakePacket>): FakePacket => ({
    destination: web.address,
    protocol: 'tcp',
    port: 80,
    local: [node],
    ...changed,
  })
  return {
    ...fake,
    rules,
    /** Where a pod's packet is sent. */
    inside: (changed: Partial<FakePacket> = {}) => fake.verdict('nat', 'PREROUTING', packet(changed)),
    outside: (changed: Partial<FakePacket> = {}) =>
      fake.verdict('nat', 'PREROUTING', packet({ interface: 'eth0', ...changed })),
    own: (changed: Partial<FakePacket> = {}) => fake.verdict('nat', 'OUTPUT', packet(changed)),
    filter: (hook: string, changed: Partial<FakePacket> = {}) => fake.verdict('filter', hook, packet(changed)),
    mangle: (hook: string, changed: Partial<FakePacket> = {}) => fake.verdict('mangle', hook, packet(changed)),
    leaving: (changed: Partial<FakePacket> = {}) => fake.verdict('nat', 'POSTROUTING', packet(changed)),
  }
}

test('a destination leads to the endpoint, from pods and from the node, and other destinations nowhere', () => {
  const { inside, own } = iptablesWith(empty, [{}])
  assert.equal(inside(), toHere)
  assert.equal(own(), toHere)
  for (const other of [{ port: 81 }, { protocol: 'udp' }, { destination: '10.96.0.11' }] as const) {
    assert.equal(inside(other), 'ACCEPT')
  }
})

test('each endpoint has one slot, and equal slots of the userspace proxy have their share', () => {
  let number = 0
  const fake = iptablesWith(empty, [{ slots: [here, proxy, proxy, proxy] }], { random: () => number })
  const counts = new Map<string, number>()
  // The first rule is asked with a number, the second one decides by being the last.
  for (let at = 0; at < 100; at++) {
    number = (at + 0.5) / 100
    const verdict = fake.inside()
    counts.set(verdict, (counts.get(verdict) ?? 0) + 1)
  }
  assert.deepEqual(Object.fromEntries(counts), { [toHere]: 25, [toProxy]: 75 })
})

test('round robin gives each endpoint its turn, whatever other ServicePorts do', () => {
  const turns = { slots: [here, second, proxy], kind: 'turns' } as const
  const other = { ...turns, name: 'shop/other:80/tcp', destinations: [{ ...web, address: '10.96.0.11' }] }
  const { inside } = iptablesWith(empty, [turns, other])
  const seen = Array.from({ length: 6 }, () => {
    inside({ destination: '10.96.0.11' })
    return inside()
  })
  assert.deepEqual(seen, [toHere, toSecond, toProxy, toHere, toSecond, toProxy])
})

test('packets from foreign interfaces are not sent to ClusterIPs, unless LAN neighbours are served', () => {
  assert.equal(iptablesWith(empty, [{}]).outside(), 'ACCEPT')
  assert.equal(iptablesWith({ ...empty, servesForeign: true }, [{}]).outside(), toHere)
})

test('a ServicePort without slots is refused and not translated', () => {
  const udp = { protocol: 'udp', address: '10.96.0.11', port: 53 } as const
  const { inside, filter } = iptablesWith(empty, [{ slots: [], destinations: [web, udp] }])
  assert.equal(inside(), 'ACCEPT')
  for (const hook of ['FORWARD', 'OUTPUT']) {
    assert.equal(filter(hook), 'REJECT --reject-with tcp-reset')
    assert.equal(
      filter(hook, { protocol: 'udp', destination: '10.96.0.11', port: 53 }),
      'REJECT --reject-with icmp-port-unreachable',
    )
    assert.equal(filter(hook, { state: 'ESTABLISHED' }), 'ACCEPT')
  }
  assert.equal(filter('FORWARD', { interface: 'eth0' }), 'ACCEPT')
})

test('who knocks at the userspace proxy without our translation finds nothing', () => {
  const { filter } = iptablesWith({ ...empty, listenPorts: [24005, 24006] }, [{}])
  assert.equal(filter('INPUT', { destination: node, port: 24005 }), 'DROP')
  assert.equal(filter('INPUT', { destination: node, port: 24006 }), 'DROP')
  assert.equal(filter('INPUT', { destination: '169.254.64.7', port: 99 }), 'DROP')
  assert.equal(filter('INPUT', { destination: '169.254.64.7', port: 24005, original: web }), 'ACCEPT')
})

test('questions from foreign interfaces are dropped, before anything lets them pass', () => {
  const question = { destination: '169.254.96.16', protocol: 'udp', port: 53, state: 'UNTRACKED' } as const
  for (const input of [empty, { ...empty, dns: undefined }]) {
    assert.equal(iptablesWith(input).filter('INPUT', { ...question, interface: 'wlan0' }), 'DROP')
  }
  assert.equal(iptablesWith(empty).filter('INPUT', { ...question, interface: 'cni0' }), 'ACCEPT')
})

test('DNS on the bridge address is not tracked, only where this node answers it and the kernel can', () => {
  const question = { destination: '169.254.96.16', protocol: 'udp', port: 53 } as const
  assert.equal(iptablesWith(empty).verdict('raw', 'OUTPUT', question), 'CT --notrack')
  const without = { ...allFeatures, notrack: false }
  for (const { rules } of [
    iptablesWith({ ...empty, dns: undefined }),
    iptablesWith(empty, [], { features: without }),
  ]) {
    assert.ok(!rules.has('raw'))
  }
})

test('the source is translated only of connections that are ours, and only where answers would miss this node', () => {
  const network = '10.244.1.0/24'
  const { leaving } = iptablesWith({ ...empty, switchedNetworks: [network] }, [
    { hairpins: ['10.244.9.9 . 10.244.9.9'] },
  ])
  const original = { address: web.address, port: 80 }
  const among = { source: '10.244.1.9', destination: '10.244.1.2', port: 8080 }
  assert.equal(leaving({ ...among, original }), 'MASQUERADE')
  assert.equal(leaving({ ...among, original: { address: '10.96.0.99', port: 80 } }), 'ACCEPT')
  assert.equal(leaving({ ...among }), 'ACCEPT')
  const elsewhere = { source: '10.244.9.9', destination: '10.244.9.9', port: 8080, original }
  assert.equal(leaving(elsewhere), 'MASQUERADE')
  assert.equal(leaving({ ...elsewhere, source: '10.244.9.8' }), 'ACCEPT')
})

test('connections that shall keep their source keep it', () => {
  const elsewhere = { source: '10.244.1.9', destination: '10.244.1.2', port: 8080 }
  const original = { address: '203.0.113.5', port: 80 }
  for (const [keepsSources, verdict] of [
    [undefined, 'MASQUERADE'],
    [true, 'ACCEPT'],
  ] as const) {
    const { leaving, inside } = iptablesWith({ ...empty, switchedNetworks: ['10.244.1.0/24'] }, [
      { slots: [], destinations: [], external: { ...external, keepsSources } },
    ])
    assert.equal(inside(atVirtual), toHere)
    assert.equal(leaving({ ...elsewhere, original }), verdict)
  }
})

const external = {
  protocol: 'tcp',
  destinations: [{ protocol: 'tcp', address: '203.0.113.5', port: 80 }],
  nodePort: 30080,
  choice,
} as const
const atVirtual = { destination: '203.0.113.5' }
const atPort = { destination: node, port: 30080 }

test('external addresses and node ports lead to the endpoint for everybody', () => {
  const { inside, outside, own } = iptablesWith(empty, [{ external }])
  for (const from of [inside, outside, own]) for (const at of [atVirtual, atPort]) assert.equal(from(at), toHere)
  for (const destination of ['203.0.113.9', '169.254.64.7'])
    assert.equal(inside({ destination, port: 30080 }), 'ACCEPT')
})

test('a node port at a loopback address leads to the userspace proxy', () => {
  const { own } = iptablesWith(empty, [{ external: { ...external, loopback: proxy } }])
  assert.equal(own({ destination: '127.0.0.1', port: 30080 }), toProxy)
})

test('with an external policy of its own, who comes from outside goes to endpoints here', () => {
  const both = { ...external, outside: { ...choice, name: 'shop/web:80/tcp, outside', slots: [second] } }
  const { inside, outside, mangle } = iptablesWith(empty, [{ external: both }])
  for (const at of [atVirtual, atPort]) {
    assert.equal(outside(at), toSecond)
    assert.equal(inside(at), toHere)
    assert.equal(mangle('PREROUTING', { ...at, interface: 'eth0' }), 'ACCEPT')
  }
})

test('and is dropped before translation where there is none', () => {
  const none = { ...external, outside: { ...choice, slots: [] } }
  const { mangle, inside } = iptablesWith(empty, [{ external: none }])
  for (const at of [atVirtual, atPort]) {
    assert.equal(mangle('PREROUTING', { ...at, interface: 'eth0' }), 'DROP')
    assert.equal(mangle('PREROUTING', { ...at, interface: 'eth0', state: 'ESTABLISHED' }), 'ACCEPT')
    assert.equal(mangle('PREROUTING', { ...at, interface: 'cni0' }), 'ACCEPT')
    assert.equal(inside(at), toHere)
  }
})

test('a ServicePort without endpoints is refused at its external addresses and its node port, to everybody', () => {
  const nothing = { slots: [], external: { ...external, choice: { ...choice, slots: [] } } }
  const { filter, outside } = iptablesWith(empty, [nothing])
  assert.equal(outside(atVirtual), 'ACCEPT')
  for (const hook of ['FORWARD', 'OUTPUT', 'INPUT']) {
    assert.equal(filter(hook, { ...atVirtual, interface: 'eth0' }), 'REJECT --reject-with tcp-reset', hook)
  }
  assert.equal(filter('INPUT', { ...atPort, interface: 'eth0' }), 'REJECT --reject-with tcp-reset')
})

test('addresses of load balancers let only the networks pass that they are for', () => {
  const guard = { destinations: external.destinations, networks: ['192.168.0.0/16', '10.0.0.0/8'] }
  const { mangle } = iptablesWith(empty, [{ external: { ...external, guard } }])
  for (const hook of ['PREROUTING', 'OUTPUT']) {
    assert.equal(mangle(hook, { ...atVirtual, source: '172.16.0.1' }), 'DROP')
    assert.equal(mangle(hook, { ...atVirtual, source: '192.168.1.9' }), 'ACCEPT')
    assert.equal(mangle(hook, { ...atVirtual, source: '10.1.1.1' }), 'ACCEPT')
    assert.equal(mangle(hook, { source: '172.16.0.1' }), 'ACCEPT')
  }
})

test('tables that nothing needs are left alone', () => {
  assert.deepEqual([...iptablesWith({ ...empty, dns: undefined }, [{}]).rules.keys()], ['nat', 'filter'])
  const hooks = hooksOf(iptablesWith(empty, [{}]).rules).map(({ table, name }) => `${table} ${name}`)
  assert.deepEqual(hooks, [
    'raw PREROUTING',
    'raw OUTPUT',
    'nat PREROUTING',
    'nat OUTPUT',
    'nat POSTROUTING',
    'filter INPUT',
    'filter FORWARD',
    'filter OUTPUT',
  ])
})

test('of thousands of ServicePorts each leads to its own endpoint, and few rules are tried for it', () => {
  const many = Array.from({ length: 3000 }, (_, at) => ({
    name: `shop/service-${at}:80/tcp`,
    destinations: [{ ...web, address: `10.96.${at >> 8}.${at & 255}` }],
    slots: [{ address: `10.244.${at >> 8}.${at & 255}`, port: 8080 }],
  }))
  const { inside, leaving, tables } = iptablesWith({ ...empty, switchedNetworks: ['10.244.0.0/16'] }, many)
  for (let at = 0; at < 3000; at += 97) {
    const [host, address] = [`${at >> 8}.${at & 255}`, `10.96.${at >> 8}.${at & 255}`]
    assert.equal(inside({ destination: address }), `DNAT --to-destination 10.244.${host}:8080`)
    const original = { address, port: 80 }
    assert.equal(leaving({ source: '10.244.0.1', destination: `10.244.${host}`, original }), 'MASQUERADE')
  }
  const lengths = [...(tables.get('nat') ?? [])].map(([, rules]) => rules.length)
  assert.ok(Math.max(...lengths) <= 64, `${Math.max(...lengths)} rules in one chain`)
})

test('with or without features everything that is rendered is something that iptables takes', () => {
  for (const missing of Object.keys(allFeatures)) {
    const features = { ...allFeatures, [missing]: false }
    const fake = createFakeIptables()
    fake.run(renderInstallation(createIptablesRendering(features)(sampleRules), new Map()))
    const text = JSON.stringify([...fake.tables].map(([, chains]) => [...chains]))
    assert.equal(text.includes(missing === 'notrack' ? '--notrack' : `-m ${missing} `), false, missing)
  }
})

test('what did not change is rendered once', () => {
  const rendered = createIptablesRendering(allFeatures)
  const [entry, other] = [...sampleRules.servicePorts.values()]
  assert.ok(entry !== undefined && other !== undefined)
  const before = rendered({ ...sampleRules, servicePorts: new Map([['0', entry]]) }).get('nat')
  const both = new Map([
    ['0', entry],
    ['1', other],
  ])
  const after = rendered({ ...sampleRules, servicePorts: both }).get('nat')
  const names = [...(before?.keys() ?? [])].filter((name) => name.startsWith('EDGEMESH-S-'))
  assert.ok(names.length > 0)
  for (const name of names) assert.equal(after?.get(name), before?.get(name))
})
