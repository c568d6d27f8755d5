import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Iptables, MissingCommandError, NotPermittedError, RulesetRejectedError } from '../../linux/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { createFakeNft } from './fake-nft.fixture.ts'
import { chooseKernelRules } from './kernel-rules.ts'

const { signal } = new AbortController()

/** A node with these iptables, where nft says this about every ruleset. */
function nodeWith(iptables: readonly Iptables[], complaint?: Error) {
  const checked: string[] = []
  const applier = {
    async check(text: string) {
      checked.push(text)
      if (complaint !== undefined) throw complaint
    },
    apply: () => assert.fail('nothing is applied'),
    update: () => assert.fail('nothing is changed'),
    elementsOf: async () => [],
    isInstalled: async () => false,
    way: () => 'nft' as const,
    generation: async () => 1,
    [Symbol.dispose]() {},
  }
  const choose = (wanted: 'auto' | 'nftables' | 'iptables') =>
    chooseKernelRules({ applier, findIptables: async () => iptables }, wanted, { logger: silentLogger }, signal)
  return { choose, checked }
}

test('nftables is taken where it takes rules of every shape, which are tried over whatever table there is', async () => {
  const { choose, checked } = nodeWith([])
  const { kind, status, limits } = await choose('auto')
  assert.equal(kind, 'nftables')
  assert.deepEqual(status, { kind, reason: 'nft and the kernel take all rules', limits: [] })
  assert.equal(limits, undefined)
  for (const word of [
    'numgen random',
    'numgen inc',
    'jhash',
    'fib daddr type',
    'masquerade',
    'reject',
    'notrack',
    '@affinity',
    'flags interval',
  ]) {
    assert.ok(checked[0]?.includes(word), word)
  }
  const nft = createFakeNft()
  nft.run((checked[0] ?? '').replace(/^delete table .*$/m, ''))
})

test('iptables is taken where nft is missing or refused, with the reason', async () => {
  for (const [complaint, reason] of [
    [new MissingCommandError('nft'), /Cannot run nft: the command is not installed/],
    [new RulesetRejectedError('Could not process rule: Operation not supported', 'numgen'), /Operation not supported/],
  ] as const) {
    const { kind, status, limits } = await nodeWith([createFakeIptables()], complaint).choose('auto')
    assert.equal(kind, 'iptables')
    assert.equal(status.version, 'iptables v1.8.9 (legacy)')
    assert.match(status.reason, reason)
    assert.deepEqual(limits, { spreads: true, keepsClients: true, hashedSlots: 8 })
  }
})

test('a kind that is asked for is taken, and the other one is not even tried', async () => {
  const forced = nodeWith([createFakeIptables('nft')])
  const { kind, status } = await forced.choose('iptables')
  assert.deepEqual([kind, status.reason], ['iptables', 'edgeProxy.kernel says so'])
  assert.deepEqual(forced.checked, [])
  const complaint = new RulesetRejectedError('syntax error', undefined)
  await assert.rejects(nodeWith([createFakeIptables()], complaint).choose('nftables'), complaint)
})

test('of two kinds of iptables the one that kube-proxy uses is taken, else the first', async () => {
  const [nft, legacy] = [createFakeIptables('nft'), createFakeIptables('legacy')]
  const first = await nodeWith([nft, legacy]).choose('iptables')
  assert.match(first.status.version ?? '', /nf_tables/)
  legacy.run('*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n')
  const beside = await nodeWith([nft, legacy]).choose('iptables')
  assert.match(beside.status.version ?? '', /legacy/)
})

test('a kind that cannot do the least is passed over', async () => {
  const [nft, legacy] = [createFakeIptables('nft'), createFakeIptables('legacy')]
  nft.refusals.add('-j DNAT')
  assert.match((await nodeWith([nft, legacy]).choose('iptables')).status.version ?? '', /legacy/)
})

test('what is missing limits what rules do, and status says so', async () => {
  const iptables = createFakeIptables()
  for (const name of ['recent', 'cluster']) iptables.refusals.add(`-m ${name}`)
  const { status, limits } = await nodeWith([iptables]).choose('iptables')
  assert.deepEqual(limits, { spreads: true, keepsClients: false, hashedSlots: 1 })
  assert.equal(status.limits.length, 2)
  iptables.refusals.add('-m statistic')
  assert.equal((await nodeWith([iptables]).choose('iptables')).limits?.spreads, false)
})

test('where nothing works the error tells of both', async () => {
  const missing = new MissingCommandError('nft')
  await assert.rejects(nodeWith([], missing).choose('auto'), missing)
  await assert.rejects(nodeWith([]).choose('iptables'), /Cannot run iptables: .*apt-get install iptables/)
  const iptables = createFakeIptables()
  iptables.refusals.add('-j DNAT')
  await assert.rejects(nodeWith([iptables], missing).choose('auto'), ({ errors }: AggregateError) => {
    return errors[0] === missing && errors.length === 2
  })
})

test('who may not change rules is told so, and iptables is not tried', async () => {
  const complaint = new NotPermittedError('change the nftables ruleset')
  await assert.rejects(nodeWith([createFakeIptables()], complaint).choose('auto'), complaint)
})
