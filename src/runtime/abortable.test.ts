import assert from 'node:assert/strict'
import { test } from 'node:test'
import { abortable } from './abortable.ts'

test('what is waited for arrives, and fails, as it would without the signal', async () => {
  const { signal } = new AbortController()
  assert.equal(await abortable(Promise.resolve(7), signal), 7)
  await assert.rejects(abortable(Promise.reject(new Error('lost')), signal), { message: 'lost' })
})

test('who waits is let go with the reason of the signal, and the others are not', async () => {
  const { promise, resolve } = Promise.withResolvers<number>()
  const impatient = new AbortController()
  const waiting = abortable(promise, impatient.signal)
  const other = abortable(promise, new AbortController().signal)
  impatient.abort(new Error('enough'))
  await assert.rejects(waiting, { message: 'enough' })
  await assert.rejects(abortable(promise, impatient.signal), { message: 'enough' })
  resolve(7)
  assert.equal(await other, 7)
})
