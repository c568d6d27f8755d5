/**
 * A node that follows a real API server with 500 Services of two ports and three endpoints; drawn in scale-site.ts.
 * test/bench/cluster-scale.ts does the same with 5,000.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isWithoutEnvtest } from '../envtest/index.ts'
import { type ScaleSite, startScaleSite } from './support/scale-site.ts'
import { medianOf } from './support/steady-requests.ts'

/** Generous, because the machine may be busy: what counts is printed. */
const patienceMs = 10_000
const mostMegabytes = 200

let site: ScaleSite

function registerTests(): void {
  test('all of its Services are in the kernel soon after the start', (t) => {
    t.diagnostic(`1000 ServicePorts ${site.programmedMs.toFixed(0)} ms after the start of the agent`)
    assert.ok(site.programmedMs <= 3 * patienceMs)
  })

  test('a change counts for new connections soon after its watch event', async (t) => {
    const times: number[] = []
    for (let change = 0; change < 10; change++) times.push(await site.changeMs())
    const worst = Math.max(...times)
    t.diagnostic(`watch event -> new connection to the new place: median ${medianOf(times)} ms, worst ${worst} ms`)
    assert.ok(worst <= patienceMs)
  })

  test('the agent stays small', async (t) => {
    const { rss } = await site.memory()
    t.diagnostic(`${(rss / 1e6).toFixed(0)} MB`)
    assert.ok(rss <= mostMegabytes * 1e6)
  })
}

if (!isWithoutEnvtest()) {
  before(async () => {
    site = await startScaleSite(500)
  })
  after(() => site?.[Symbol.asyncDispose]())
  registerTests()
}
