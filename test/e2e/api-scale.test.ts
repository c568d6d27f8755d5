/**
 * A node that follows a real API server with 5,000 Services of two ports and three endpoints; drawn in scale-site.ts.
 * test/bench/cluster-scale.ts says what it costs from moment to moment.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { isWithoutEnvtest } from '../envtest/index.ts'
import { type ScaleSite, startScaleSite } from './support/scale-site.ts'
import { medianOf } from './support/steady-requests.ts'

const count = 5_000
const changes = 20
/** Generous, because the machine may be busy: what counts is printed. */
const patienceMs = 20_000
const mostBytes = 200e6
/** By then the start is over, what is known was stored, and the memory of the start given back. */
const observedMs = 30_000

let site: ScaleSite

function registerTests(): void {
  test('all of its Services are in the kernel soon after the start', (t) => {
    t.diagnostic(`${2 * count} ServicePorts ${site.programmedMs.toFixed(0)} ms after the start of the agent`)
    assert.ok(site.programmedMs <= 3 * patienceMs)
  })

  test('a change counts for new connections soon after its watch event', async (t) => {
    const times: number[] = []
    for (let change = 0; change < changes; change++) times.push(await site.changeMs())
    const worst = Math.max(...times)
    t.diagnostic(`watch event -> new connection to the new place: median ${medianOf(times)} ms, worst ${worst} ms`)
    assert.ok(worst <= patienceMs)
  })

  test('the agent never holds more than 200 MB: not while it starts, nor after that', async (t) => {
    await delay(Math.max(0, observedMs - site.agentAgeMs()))
    const { now, most } = await site.memory()
    t.diagnostic(`at most ${(most / 1e6).toFixed(0)} MB, ${(now / 1e6).toFixed(0)} now`)
    assert.ok(most <= mostBytes, `${(most / 1e6).toFixed(0)} MB`)
  })
}

if (!isWithoutEnvtest()) {
  before(async () => {
    site = await startScaleSite(count)
  })
  after(() => site?.[Symbol.asyncDispose]())
  registerTests()
}
