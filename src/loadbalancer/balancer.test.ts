import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backend } from '../model/index.ts'
import { type Balancer, createBalancer } from './balancer.ts'

const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((nodeName) => ({ nodeName, address: '10.0.0.1', port: 80 })) as [
  Backend,
  Backend,
  Backend,
  Backend,
]

/** A balancer with a clock that the test moves; random draws are all zero, so new backends keep their order. */
function createFixture(kind: 'round-robin' | 'random' = 'round-robin', random: () => number = () => 0) {
  const clock = { nowMs: 1_000_000 }
  return { clock, balancer: createBalancer({ balancing: { kind } }, { random, nowMs: () => clock.nowMs }) }
}

function namesOf(backends: Iterable<Backend>): string {
  return [...backends].map(({ nodeName }) => nodeName).join('')
}

/** The first choice of one connection, without asking for a second one. */
function pick(balancer: Balancer): string {
  const next = balancer.attempts().next()
  return next.done ? '' : (next.value.nodeName ?? '')
}

function picks(balancer: Balancer, connections: number): string {
  return Array.from({ length: connections }, () => pick(balancer)).join('')
}

test('without backends there is nothing to try', () => {
  const { balancer } = createFixture()
  assert.deepEqual([...balancer.attempts()], [])
})

test('backends are not looked at before somebody asks for one', () => {
  const { balancer } = createFixture()
  const unread = new Proxy([a, b], { get: () => assert.fail('a backend was looked at') })
  balancer.setBackends(unread, unread)
  balancer.setPolicy({ balancing: { kind: 'random' } })
  balancer.setBackends([a], [])
  assert.equal(pick(balancer), 'a')
})

test('round robin gives each backend its turn', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b, c], [])
  assert.equal(picks(balancer, 7), 'abcabca')
})

test('one connection tries every backend once, the others only after the preferred ones', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [c, d])
  assert.equal(namesOf(balancer.attempts()), 'abcd')
})

test('a retry of one connection moves the turns of the next ones', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b, c], [])
  const attempts = balancer.attempts()
  assert.equal(namesOf([attempts.next().value as Backend, attempts.next().value as Backend]), 'ab')
  assert.equal(picks(balancer, 3), 'cab')
})

test('round robin stays fair when the same backends come as new objects in another order', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b, c], [])
  assert.equal(picks(balancer, 1), 'a')
  balancer.setBackends([{ ...c }, { ...a }, { ...b }], [])
  assert.equal(picks(balancer, 2).split('').sort().join(''), 'bc')
  assert.equal(pick(balancer), 'a')
})

test('backends that leave and join change nothing for those that stay', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b, c], [])
  assert.equal(picks(balancer, 4), 'abca')
  balancer.setBackends([a, c, d], [])
  // The new one has waited longest of all, then the turns go on.
  assert.equal(picks(balancer, 6), 'dcadca')
})

test('a list that changes before every connection still spreads them evenly', () => {
  const { balancer } = createFixture()
  const counts: Record<string, number> = {}
  for (let count = 0; count < 300; count++) {
    balancer.setBackends(count % 2 === 0 ? [a, b, c] : [c, b, a], [])
    const name = pick(balancer)
    counts[name] = (counts[name] ?? 0) + 1
  }
  assert.deepEqual(counts, { a: 100, b: 100, c: 100 })
})

test('nodes start with different backends', () => {
  const starts = new Set(
    [0.1, 0.9].map((first) => {
      const draws = [first, 0.5]
      const { balancer } = createFixture('round-robin', () => draws.shift() ?? 0)
      balancer.setBackends([a, b], [])
      return pick(balancer)
    }),
  )
  assert.deepEqual(starts, new Set(['a', 'b']))
})

test('random follows the draw and never repeats a backend within a connection', () => {
  const draws: number[] = []
  const { balancer } = createFixture('random', () => draws.shift() ?? 0)
  balancer.setBackends([a, b], [])
  // The first use draws for the order in which they wait.
  pick(balancer)
  draws.push(0.99, 0)
  assert.equal(namesOf(balancer.attempts()), 'ba')
  draws.push(0, 0)
  assert.equal(namesOf(balancer.attempts()), 'ab')
})

test('backends with the same address on different nodes are different backends', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [])
  balancer.dialFailed(a)
  assert.equal(picks(balancer, 2), 'bb')
})

test('a backend that failed is tried last, after the others too, but it is tried', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [c])
  balancer.dialFailed(a)
  assert.equal(namesOf(balancer.attempts()), 'bca')
})

test('when all have failed they still take turns, preferred first', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [c])
  for (const backend of [a, b, c]) balancer.dialFailed(backend)
  assert.equal(namesOf(balancer.attempts()), 'abc')
  assert.equal(picks(balancer, 3), 'aba')
})

test('after the failure is old, one connection tries the backend and the rest go on avoiding it', () => {
  const { balancer, clock } = createFixture()
  balancer.setBackends([a, b], [])
  balancer.dialFailed(a)
  clock.nowMs += 4_999
  assert.equal(picks(balancer, 2), 'bb')
  clock.nowMs += 1
  assert.equal(picks(balancer, 3), 'abb')
  balancer.dialSucceeded(a)
  assert.equal(picks(balancer, 2), 'ab')
})

test('the failure of one connection is known to a retry that is already under way', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b, c], [])
  const attempts = balancer.attempts()
  attempts.next()
  balancer.dialFailed(b)
  assert.equal(namesOf(attempts), 'cb')
})

test('a failure is remembered across a change of the list and forgotten with the backend', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [])
  balancer.dialFailed(a)
  balancer.setBackends([a, b, c], [])
  assert.equal(namesOf(balancer.attempts()).at(-1), 'a')
  balancer.setBackends([b, c], [])
  balancer.setBackends([a, b, c], [])
  assert.equal(pick(balancer), 'a')
})

test('a connection whose list changes midway does not meet the same backend twice', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a, b], [])
  const attempts = balancer.attempts()
  assert.equal(attempts.next().value?.nodeName, 'a')
  balancer.setBackends([{ ...a }, { ...c }], [])
  assert.equal(namesOf(attempts), 'c')
})

test('outcomes of backends that have left are ignored', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a], [])
  balancer.dialFailed(b)
  balancer.dialSucceeded(b)
  assert.equal(namesOf(balancer.attempts()), 'a')
})

test('a backend listed twice counts once, as preferred', () => {
  const { balancer } = createFixture()
  balancer.setBackends([a], [{ ...a }, b])
  assert.equal(namesOf(balancer.attempts()), 'ab')
})
