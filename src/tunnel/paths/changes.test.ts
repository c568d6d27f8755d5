import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Changes } from './changes.ts'

const never = new AbortController().signal

test('all who wait go on with the next change, and those who come later wait for another one', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const changes = new Changes()
  const order: string[] = []
  const waiting = ['one', 'two'].map((name) => changes.next(1000, never).then(() => order.push(name)))
  changes.tell()
  const late = changes.next(1000, never).then(() => order.push('late'))
  await Promise.all(waiting)
  assert.deepEqual(order, ['one', 'two'])
  changes.tell()
  await late
})

test('a wait without a change ends when its time is up', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const waiting = new Changes().next(250, never)
  t.mock.timers.tick(250)
  await waiting
})

test('who gives up learns his own reason, before and while he waits', async () => {
  const changes = new Changes()
  const gone = new AbortController()
  const waiting = changes.next(60_000, gone.signal)
  gone.abort(new Error('gone'))
  await assert.rejects(waiting, /gone/)
  await assert.rejects(changes.next(60_000, gone.signal), /gone/)
})
