import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { IptablesTable } from '../../linux/index.ts'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { type Chains, hooksOf, type IptablesRules, isFirst, renderInstallation, renderUpdate } from './iptables-text.ts'

const rulesOf = (tables: Partial<Record<IptablesTable, Readonly<Record<string, readonly string[]>>>>): IptablesRules =>
  new Map(
    Object.entries(tables).map(([table, chains]): [IptablesTable, Chains] => [
      table as IptablesTable,
      new Map(Object.entries(chains)),
    ]),
  )

const before = rulesOf({
  nat: {
    'EDGEMESH-PREROUTING': ['-j EDGEMESH-SERVICES'],
    'EDGEMESH-SERVICES': ['-d 10.96.0.10/32 -j EDGEMESH-S-1', '-d 10.96.0.11/32 -j EDGEMESH-S-2'],
    'EDGEMESH-S-1': ['-p tcp -j DNAT --to-destination 10.244.1.2:80'],
    'EDGEMESH-S-2': ['-p tcp -j DNAT --to-destination 10.244.1.3:80'],
  },
  mangle: { 'EDGEMESH-PREROUTING': ['-s 10.0.0.0/8 -j DROP'] },
})

const after = rulesOf({
  nat: {
    'EDGEMESH-PREROUTING': ['-j EDGEMESH-SERVICES'],
    'EDGEMESH-SERVICES': ['-d 10.96.0.10/32 -j EDGEMESH-S-1', '-d 10.96.0.12/32 -j EDGEMESH-S-3'],
    'EDGEMESH-S-1': ['-p tcp -j DNAT --to-destination 10.244.1.2:80'],
    'EDGEMESH-S-3': ['-p tcp -j DNAT --to-destination 10.244.1.4:80'],
  },
  raw: { 'EDGEMESH-OUTPUT': ['-p udp -j CT --notrack'] },
})

async function listed(fake: ReturnType<typeof createFakeIptables>) {
  const signal = new AbortController().signal
  const tables: IptablesTable[] = ['raw', 'mangle', 'nat', 'filter']
  return new Map(await Promise.all(tables.map(async (table) => [table, await fake.list(table, signal)] as const)))
}

/** Chains of ours that a fake holds, by table. */
const ownIn = (fake: ReturnType<typeof createFakeIptables>) =>
  new Map(
    [...fake.tables]
      .map(([table, chains]) => [table, new Map([...chains].filter(([name]) => name.startsWith('EDGEMESH-')))] as const)
      .filter(([, chains]) => chains.size > 0),
  )

const sorted = (rules: IptablesRules) => new Map([...rules].sort(([left], [right]) => (left < right ? -1 : 1)))

test('an installation makes the chains and puts them before those of others', async () => {
  const fake = createFakeIptables()
  fake.run('*nat\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\nCOMMIT\n')
  fake.run(renderInstallation(before, await listed(fake)))
  assert.deepEqual(sorted(ownIn(fake)), sorted(before))
  assert.deepEqual(fake.tables.get('nat')?.get('PREROUTING'), ['-j EDGEMESH-PREROUTING', '-j KUBE-SERVICES'])
})

test('an installation over an older one leaves what is wanted, and nothing else of ours', async () => {
  const fake = createFakeIptables()
  fake.run(renderInstallation(before, await listed(fake)))
  fake.run('*nat\n:OTHERS - [0:0]\n-A OTHERS -j RETURN\n-I PREROUTING -j OTHERS\nCOMMIT\n')
  fake.run(renderInstallation(after, await listed(fake)))
  assert.deepEqual(sorted(ownIn(fake)), sorted(after))
  assert.deepEqual(fake.tables.get('nat')?.get('PREROUTING'), ['-j EDGEMESH-PREROUTING', '-j OTHERS'])
  assert.deepEqual(fake.tables.get('mangle')?.get('PREROUTING'), [])
  assert.deepEqual(fake.tables.get('nat')?.get('OTHERS'), ['-j RETURN'])
})

test('an update leads to the same as an installation, and back', async () => {
  const fake = createFakeIptables()
  fake.run(renderInstallation(before, await listed(fake)))
  fake.run(renderUpdate(before, after))
  assert.deepEqual(sorted(ownIn(fake)), sorted(after))
  fake.run(renderUpdate(after, before))
  assert.deepEqual(sorted(ownIn(fake)), sorted(before))
})

test('an update names the chains that changed and no others', () => {
  const text = renderUpdate(before, after)
  const declared = [...text.matchAll(/^:(\S+)/gm)].map((match) => match[1])
  assert.deepEqual(declared, ['EDGEMESH-OUTPUT', 'EDGEMESH-SERVICES', 'EDGEMESH-S-3'])
  assert.equal(renderUpdate(after, after), '')
  assert.equal(renderUpdate(after, structuredClone(after)), '')
})

test('ours are first also behind accepts that we put there ourselves', () => {
  const hook = { table: 'filter', name: 'FORWARD', chain: 'EDGEMESH-FORWARD' } as const
  const jump = '-A FORWARD -j EDGEMESH-FORWARD'
  const accept = '-A FORWARD -m conntrack --ctstate DNAT -m comment --comment edgemesh -j ACCEPT'
  assert.ok(isFirst([accept, jump, '-A FORWARD -j DOCKER'], hook))
  assert.ok(!isFirst(['-A FORWARD -j DOCKER', jump], hook))
  assert.ok(!isFirst([], hook))
})

test('chains are declared from the last name to the first, which iptables-nft sorts without searching', () => {
  for (const text of [renderInstallation(before, new Map()), renderUpdate(rulesOf({}), before)]) {
    const [, nat = ''] = text.split('*nat\n')
    const declared = [...nat.matchAll(/^:(\S+)/gm)].map((match) => match[1])
    assert.equal(declared.length, 4)
    assert.deepEqual(declared, declared.toSorted().reverse())
  }
})

test('only chains with the name of one of the kernel hang on it', () => {
  assert.deepEqual(hooksOf(before), [
    { table: 'nat', name: 'PREROUTING', chain: 'EDGEMESH-PREROUTING' },
    { table: 'mangle', name: 'PREROUTING', chain: 'EDGEMESH-PREROUTING' },
  ])
})
