import assert from 'node:assert/strict'
import { getEventListeners } from 'node:events'
import { test } from 'node:test'
import { TimeLimit } from './time-limit.ts'

test('a time limit aborts when the time is up, and says so', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  using limit = new TimeLimit(1000, new AbortController().signal)
  context.mock.timers.tick(999)
  assert.deepEqual([limit.signal.aborted, limit.isOver], [false, false])
  context.mock.timers.tick(1)
  assert.deepEqual([limit.signal.aborted, limit.isOver], [true, true])
  assert.equal(limit.signal.reason.name, 'TimeoutError')
})

test('a time limit aborts with the reason of whichever parent aborts first', () => {
  const [stopping, gone] = [new AbortController(), new AbortController()]
  using limit = new TimeLimit(60_000, stopping.signal, gone.signal)
  gone.abort(new Error('the client went away'))
  stopping.abort(new Error('stopping'))
  assert.deepEqual([limit.signal.reason, limit.isOver], [new Error('the client went away'), false])
})

test('a time limit of a parent that has aborted is aborted from the start', () => {
  using limit = new TimeLimit(60_000, AbortSignal.abort(new Error('stopping')))
  assert.deepEqual(limit.signal.reason, new Error('stopping'))
})

test('a disposed time limit leaves nothing behind at its parents and in time', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const parent = new AbortController()
  const limit = new TimeLimit(1000, parent.signal)
  assert.equal(getEventListeners(parent.signal, 'abort').length, 1)
  limit[Symbol.dispose]()
  assert.equal(getEventListeners(parent.signal, 'abort').length, 0)
  context.mock.timers.tick(2000)
  parent.abort()
  assert.equal(limit.signal.aborted, false)
})

test('a time limit that is begun anew counts from then, with the new length', (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  using limit = new TimeLimit(1000)
  context.mock.timers.tick(900)
  limit.restart(500)
  context.mock.timers.tick(499)
  assert.equal(limit.isOver, false)
  context.mock.timers.tick(1)
  assert.deepEqual([limit.isOver, limit.signal.reason.message], [true, 'not done within 500 ms'])
})
