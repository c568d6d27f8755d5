import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createFakeIptables } from './fake-iptables.fixture.ts'
import { turnoffOf } from './iptables-choice.ts'
import { allFeatures, type IptablesFeatures } from './iptables-features.ts'
import type { Choice } from './ruled-service-port.ts'

const slotsOf = (count: number) =>
  Array.from({ length: count }, (_, at) => ({ address: `10.244.1.${at + 2}`, port: 80 }))
const choiceOf = (count: number, changed: Partial<Choice> = {}): Choice => ({
  name: 'shop/web:80/tcp',
  kind: 'random',
  slots: slotsOf(count),
  ...changed,
})

/** Where packets of clients go that come to a choice. */
function deciding(choice: Choice, features: IptablesFeatures = allFeatures) {
  const clock = { seconds: 0, random: 0.5 }
  const fake = createFakeIptables('legacy', { nowSeconds: () => clock.seconds, random: () => clock.random })
  const { target, chain } = turnoffOf(choice, 'tcp', features)
  const rules = chain === undefined ? [] : [`:${chain[0]} - [0:0]`, ...chain[1].map((rule) => `-A ${chain[0]} ${rule}`)]
  fake.run(['*nat', ...rules, `-A PREROUTING -p tcp -m tcp --dport 80 ${target}`, 'COMMIT'].join('\n'))
  const from = (source: string) => {
    const verdict = fake.verdict('nat', 'PREROUTING', { source, destination: '10.96.0.10', protocol: 'tcp', port: 80 })
    return /^DNAT --to-destination 10\.244\.1\.(\d+):80$/.exec(verdict)?.[1] ?? verdict
  }
  return { from, clock }
}

test('one slot needs no chain', () => {
  const { target, chain } = turnoffOf(choiceOf(1), 'tcp', allFeatures)
  assert.equal(target, '-j DNAT --to-destination 10.244.1.2:80')
  assert.equal(chain, undefined)
})

test('random slots have equal shares: each rule has its part of what the ones before it left', () => {
  const { chain } = turnoffOf(choiceOf(3), 'udp', allFeatures)
  assert.deepEqual(chain?.[1], [
    '-p udp -m statistic --mode random --probability 0.3333333333 -j DNAT --to-destination 10.244.1.2:80',
    '-p udp -m statistic --mode random --probability 0.5000000000 -j DNAT --to-destination 10.244.1.3:80',
    '-p udp -j DNAT --to-destination 10.244.1.4:80',
  ])
})

test('slots in turns are counted exactly, however many there are', () => {
  for (const count of [2, 3, 7]) {
    const { from } = deciding(choiceOf(count, { kind: 'turns' }))
    const seen = Array.from({ length: 3 * count }, () => from('10.244.1.9'))
    const counts = slotsOf(count).map(({ address }) => seen.filter((host) => address.endsWith(`.${host}`)).length)
    assert.deepEqual(
      counts,
      Array.from({ length: count }, () => 3),
    )
  }
})

test('with affinity a client keeps its slot until it was away for too long', () => {
  const { from, clock } = deciding(choiceOf(2, { affinitySeconds: 30 }))
  clock.random = 0.1
  assert.equal(from('10.0.0.1'), '2')
  clock.random = 0.9
  assert.equal(from('10.0.0.2'), '3')
  for (clock.seconds = 20; clock.seconds < 200; clock.seconds += 20) assert.equal(from('10.0.0.1'), '2')
  clock.seconds += 31
  assert.equal(from('10.0.0.1'), '3')
  clock.random = 0.1
  assert.equal(from('10.0.0.1'), '3')
})

test('a single slot with affinity is remembered too, for when there are more', () => {
  const { chain } = turnoffOf(choiceOf(1, { affinitySeconds: 30 }), 'tcp', allFeatures)
  assert.match(chain?.[1].at(-1) ?? '', /-m recent --name EDGEMESH-\w{16} --set -j DNAT/)
})

test('the list of a slot has the same name after every restart, and another one in every ServicePort', () => {
  const listsIn = (name: string) =>
    JSON.stringify(turnoffOf(choiceOf(2, { name, affinitySeconds: 30 }), 'tcp', allFeatures).chain).match(
      /EDGEMESH-\w{16}\b/g,
    )
  assert.deepEqual(listsIn('shop/web:80/tcp'), listsIn('shop/web:80/tcp'))
  assert.ok(!listsIn('shop/web:80/tcp')?.some((list) => listsIn('shop/api:80/tcp')?.includes(list)))
})

test('a hashed client address has always the same slot, and every slot has clients', () => {
  const { from } = deciding(choiceOf(8, { kind: 'source' }))
  const seen = Array.from({ length: 64 }, (_, at) => from(`10.0.0.${at}`))
  assert.equal(new Set(seen).size, 8)
  assert.deepEqual(
    Array.from({ length: 64 }, (_, at) => from(`10.0.0.${at}`)),
    seen,
  )
})

test('without the match on shares the first slot has all clients; planning sends what it can to userspace', () => {
  const { from } = deciding(choiceOf(3), { ...allFeatures, statistic: false })
  assert.deepEqual([from('10.0.0.1'), from('10.0.0.2')], ['2', '2'])
})

test('without the match on lists or on clusters clients are spread at random', () => {
  for (const [choice, missing] of [
    [choiceOf(2, { affinitySeconds: 30 }), 'recent'],
    [choiceOf(2, { kind: 'source' }), 'cluster'],
    [choiceOf(9, { kind: 'source' }), ''],
  ] as const) {
    const { from, clock } = deciding(choice, { ...allFeatures, ...(missing !== '' && { [missing]: false }) })
    clock.random = 0.01
    const first = from('10.0.0.1')
    clock.random = 0.99
    assert.notEqual(from('10.0.0.1'), first)
  }
})
