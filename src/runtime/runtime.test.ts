import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backoffDelayMs } from './backoff.ts'
import { aborted, sleep } from './sleep.ts'
import { TaskGroup } from './task-group.ts'

test('back-off doubles up to its limit and jitters only its part', () => {
  const policy = { firstMs: 500, maxMs: 30_000, jitter: 0.5 }
  assert.equal(
    backoffDelayMs(policy, 1, () => 1),
    500,
  )
  assert.equal(
    backoffDelayMs(policy, 2, () => 0),
    500,
  )
  assert.equal(
    backoffDelayMs(policy, 40, () => 1),
    30_000,
  )
})

test('back-off with patience doubles on after some attempts, up to another limit', () => {
  const policy = { firstMs: 1000, maxMs: 4000, jitter: 0, patience: { afterAttempts: 4, maxMs: 20_000 } }
  const delays = [1, 2, 3, 4, 5, 6, 7, 100].map((attempt) => backoffDelayMs(policy, attempt, () => 0))
  assert.deepEqual(delays, [1000, 2000, 4000, 4000, 8000, 16_000, 20_000, 20_000])
})

test('disposing a task group aborts its tasks and waits for them', async () => {
  const steps: string[] = []
  {
    await using tasks = new TaskGroup(() => steps.push('failed'))
    tasks.run('waiter', async (signal) => {
      await aborted(signal)
      steps.push('stopped')
    })
    assert.equal(tasks.size, 1)
  }
  assert.deepEqual(steps, ['stopped'])
})

test('a failing task is reported by name and leaves the others running', async () => {
  const failures: string[] = []
  await using tasks = new TaskGroup((name, error) => failures.push(`${name}: ${String(error)}`))
  tasks.run('bad', () => Promise.reject(new Error('boom')))
  tasks.run('good', (signal) => aborted(signal))
  await new Promise(setImmediate)
  assert.deepEqual(failures, ['bad: Error: boom'])
  assert.equal(tasks.size, 1)
})

test('sleep rejects with the reason of the abort', async () => {
  const controller = new AbortController()
  const sleeping = sleep(60_000, controller.signal)
  controller.abort(new Error('enough'))
  await assert.rejects(sleeping, /enough/)
})
