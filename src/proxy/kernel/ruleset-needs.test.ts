import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Choice, RuledServicePort } from './ruled-service-port.ts'
import { createNeeds } from './ruleset-needs.ts'

const slots = (count: number) => Array.from({ length: count }, (_, at) => ({ address: `10.244.1.${at + 2}`, port: 80 }))

function servicePort(name: string, count: number, more: Partial<RuledServicePort> = {}): RuledServicePort {
  const destinations = [{ protocol: 'tcp', address: '10.96.0.1', port: 80 }] as const
  return { name, kind: 'random', slots: slots(count), destinations, hairpins: [], ...more }
}

function external(choice: Choice, outside: Choice | undefined, nodePort?: number): Partial<RuledServicePort> {
  const destinations = [{ protocol: 'tcp', address: '203.0.113.1', port: 80 }] as const
  const guard = nodePort === undefined ? { destinations, networks: ['10.0.0.0/8'] } : undefined
  return { external: { protocol: 'tcp', destinations, nodePort, choice, guard, ...(outside && { outside }) } }
}

const needsOf = (entries: Readonly<Record<string, RuledServicePort>>) => createNeeds()(new Map(Object.entries(entries)))

test('the longest list of slots decides how many maps there are, each length is a chain', () => {
  const { slots: longest, chains } = needsOf({ a: servicePort('a', 2), b: servicePort('b', 5), c: servicePort('c', 0) })
  assert.deepEqual([...longest], [['', 5]])
  assert.deepEqual([...chains.keys()], ['slots-2', 'slots-5'])
})

test('turns and sources have chains of their own and no slots', () => {
  const { slots: longest, chains } = needsOf({
    a: servicePort('a', 3, { kind: 'turns' }),
    b: servicePort('b', 4, { kind: 'source' }),
  })
  assert.deepEqual([...longest], [])
  assert.deepEqual([...chains.keys()], ['source-b', 'turns-a'])
})

test('ways from outside are needed where somebody takes them', () => {
  const plain = needsOf({ a: servicePort('a', 1) })
  assert.deepEqual([plain.hasExternal, plain.hasNodePorts, plain.hasGuards], [false, false, false])
  const guarded = needsOf({ a: servicePort('a', 1, external(servicePort('a', 2), undefined)) })
  assert.deepEqual([guarded.hasExternal, guarded.hasNodePorts, guarded.hasGuards], [true, false, true])
  const open = needsOf({ a: servicePort('a', 1, external(servicePort('a', 2), servicePort('o', 3), 30_080)) })
  assert.deepEqual([open.hasExternal, open.hasNodePorts, open.hasGuards], [true, true, false])
  assert.deepEqual(Object.fromEntries(open.slots), { '': 2, 'outside-': 3, 'port-': 2, 'outside-port-': 3 })
})

test('each affinity timeout has a set, for addresses and for node ports', () => {
  const sticky = servicePort('a', 2, { affinitySeconds: 60 })
  const { stickySets } = needsOf({ a: { ...sticky, ...external(sticky, undefined, 30_080) }, b: sticky })
  assert.deepEqual(stickySets, [
    { seconds: 60, isPort: false },
    { seconds: 60, isPort: true },
  ])
})

test('after any changes the needs are those of whoever is left', () => {
  let seed = 11
  const upTo = (most: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return (seed >>> 16) % most
  }
  const choice = (name: string): RuledServicePort =>
    servicePort(name, upTo(5), {
      kind: (['random', 'turns', 'source'] as const)[upTo(3)] ?? 'random',
      affinitySeconds: upTo(2) === 0 ? 10 * upTo(3) : undefined,
    })
  const follow = createNeeds()
  const entries = new Map<string, RuledServicePort>()
  for (let round = 0; round < 500; round++) {
    const id = `service-${upTo(8)}`
    const more =
      upTo(2) === 0 ? external(choice(id), upTo(2) === 0 ? choice(`${id}, o`) : undefined, upTo(2) + 30_000) : {}
    if (upTo(3) === 0) entries.delete(id)
    else entries.set(id, { ...choice(id), ...more })
    const { chains, ...needs } = follow(new Map(entries))
    const { chains: freshChains, ...fresh } = createNeeds()(new Map(entries))
    const keyed = (slotCounts: ReadonlyMap<string, number>) => new Map([...slotCounts].sort())
    assert.deepEqual({ ...needs, slots: keyed(needs.slots) }, { ...fresh, slots: keyed(fresh.slots) })
    assert.deepEqual([...chains.keys()], [...freshChains.keys()])
    for (const [name, { choice: chosen }] of chains) {
      const same = freshChains.get(name)?.choice
      // Whose slots are random only their number counts.
      if (chosen.kind === 'random') assert.equal(chosen.slots.length, same?.slots.length)
      else assert.deepEqual(chosen, same)
    }
  }
})
