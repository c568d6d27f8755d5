import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { backoffDelayMs } from '../../runtime/index.ts'
import { repeatableRandom } from '../../runtime/repeatable-random.fixture.ts'
import { serverRetryPolicy } from './server-retry.ts'

/** When each of the agents first dials a server that was lost at 0 and is back after `awayMs`; all dials before. */
function dialsOf(nodes: number, awayMs: number) {
  const random = repeatableRandom(nodes + awayMs)
  const late: number[] = []
  let inVain = 0
  for (let node = 0; node < nodes; node++) {
    let nowMs = 0
    for (let failures = 1; ; failures++) {
      const policy = serverRetryPolicy({ lostForMs: nowMs, nodes, isOtherPort: false })
      nowMs += backoffDelayMs(policy, failures, random)
      if (nowMs >= awayMs) break
      inVain += 1
    }
    late.push(nowMs - awayMs)
  }
  return { late: late.sort((left, right) => left - right), inVain }
}

function busiest(times: readonly number[], windowMs: number): number {
  return Math.max(...times.map((from) => times.filter((at) => at >= from && at < from + windowMs).length))
}

suite('a server that comes back', () => {
  for (const awayMs of [600, 2_000, 5_000, 20_000]) {
    test(`after ${awayMs} ms is dialled by all of fifty agents within 0.4 s, and not by all at once`, () => {
      const { late } = dialsOf(50, awayMs)
      assert.ok((late.at(-1) ?? 0) <= 400, `the last one after ${late.at(-1)} ms`)
      assert.ok(busiest(late, 50) <= 25, `${busiest(late, 50)} within 50 ms`)
    })

    test(`after ${awayMs} ms is dialled by all of a thousand within 10 s, by at most 250 in each second`, () => {
      const { late, inVain } = dialsOf(1000, awayMs)
      assert.ok((late.at(-1) ?? 0) <= 10_000, `the last one after ${late.at(-1)} ms`)
      assert.ok(busiest(late, 1000) <= 250, `${busiest(late, 1000)} within a second`)
      assert.ok(inVain <= (awayMs / 1000) * 300, `${inVain} dials before`)
    })
  }

  test('after more than a restart takes is dialled within a second', () => {
    const { late } = dialsOf(50, 300_000)
    assert.ok((late.at(-1) ?? 0) <= 1000)
  })
})

test('a server that was never there is dialled each second at most', () => {
  const policy = serverRetryPolicy({ nodes: 0, isOtherPort: false })
  const longest = [1, 2, 3, 20].map((attempt) => backoffDelayMs(policy, attempt, () => 1))
  assert.deepEqual(longest, [300, 600, 1000, 1000])
})

test('another port of a server that is there is dialled less and less often', () => {
  const policy = serverRetryPolicy({ lostForMs: 0, nodes: 5000, isOtherPort: true })
  assert.equal(
    backoffDelayMs(policy, 20, () => 1),
    30_000,
  )
})

test('the largest mesh is not kept waiting for more than ten seconds', () => {
  const policy = serverRetryPolicy({ lostForMs: 0, nodes: 20_000, isOtherPort: false })
  assert.equal(
    backoffDelayMs(policy, 1, () => 1),
    10_000,
  )
})
