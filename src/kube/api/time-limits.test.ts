import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { ApiTimeoutError } from './errors.ts'
import { TimeLimits } from './time-limits.ts'

const hourMs = 3_600_000
const never = new Promise<never>(() => {})

test('the stage ends what takes too long, and a new stage starts over', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  using limits = new TimeLimits('GET /x', hourMs, new AbortController().signal)
  limits.stage(1000, 'connecting')
  context.mock.timers.tick(900)
  limits.stage(2000, 'the answer')
  context.mock.timers.tick(1900)
  assert.equal(limits.signal.aborted, false)
  context.mock.timers.tick(100)
  assert.ok(limits.signal.reason instanceof ApiTimeoutError)
  assert.equal(limits.signal.reason.message, 'the answer took over 2 s')
  await assert.rejects(limits.race(never), ApiTimeoutError)
})

test('the total ends what keeps every stage', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  using limits = new TimeLimits('GET /x', 10_000, new AbortController().signal)
  for (let turn = 0; turn < 10; turn++) {
    limits.stage(2000, 'the next bytes')
    context.mock.timers.tick(1000)
  }
  assert.equal(limits.signal.reason.message, 'GET /x took over 10 s')
})

test("the caller's reason is passed on, also when it has aborted before", async () => {
  const caller = new AbortController()
  using limits = new TimeLimits('GET /x', hourMs, caller.signal)
  const racing = limits.race(never)
  caller.abort(new Error('enough'))
  await assert.rejects(racing, /enough/)
  using late = new TimeLimits('GET /x', hourMs, caller.signal)
  await assert.rejects(late.race(Promise.resolve()), /enough/)
})

test('nothing stays behind on a signal that lives on', async () => {
  const caller = new AbortController()
  {
    using limits = new TimeLimits('GET /x', hourMs, caller.signal)
    assert.equal(await limits.race(Promise.resolve(5)), 5)
    assert.equal(getEventListeners(caller.signal, 'abort').length, 1)
  }
  assert.equal(getEventListeners(caller.signal, 'abort').length, 0)
})
