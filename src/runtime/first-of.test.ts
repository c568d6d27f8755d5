import assert from 'node:assert/strict'
import { test } from 'node:test'
import { firstOf } from './first-of.ts'

const ignore = () => {}
const inOrder = (begins: readonly (() => Promise<string>)[], patienceMs: number) =>
  begins.map((begin) => ({ begin, patienceMs }))
const never = () => new Promise<string>(ignore)

test('the first attempt is enough when it answers', async () => {
  let others = 0
  const other = async () => {
    others += 1
    return 'other'
  }
  assert.equal(await firstOf(inOrder([async () => 'first', other], 60_000), ignore), 'first')
  assert.equal(others, 0)
})

test('a silent attempt is joined by the next one', async () => {
  assert.equal(await firstOf(inOrder([never, async () => 'second'], 1), ignore), 'second')
})

test('a failed attempt is followed by the next one at once', async () => {
  const failures: unknown[] = []
  const fail = async () => await Promise.reject(new Error('refused'))
  assert.equal(await firstOf(inOrder([fail, async () => 'second'], 60_000), (error) => failures.push(error)), 'second')
  assert.deepEqual(failures.map(String), ['Error: refused'])
})

test('a slow attempt still counts when the next ones have failed', async () => {
  const { promise, resolve } = Promise.withResolvers<string>()
  const fail = async () => {
    setImmediate(() => resolve('slow'))
    return await Promise.reject(new Error('refused'))
  }
  assert.equal(await firstOf(inOrder([() => promise, fail], 1), ignore), 'slow')
})

test('without success there is nothing', async () => {
  const failures: unknown[] = []
  const fail = async () => await Promise.reject(new Error('refused'))
  assert.equal(await firstOf(inOrder([fail, fail], 60_000), (error) => failures.push(error)), undefined)
  assert.equal(failures.length, 2)
  assert.equal(await firstOf(inOrder([], 60_000), ignore), undefined)
})
