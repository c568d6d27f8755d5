import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FlowCounter } from './flow-limits.ts'

test('flows are counted by peer and in total, and leave once', () => {
  const counter = new FlowCounter({ total: 10, perPeer: 10 })
  const first = counter.enter('a')
  counter.enter('a')
  counter.enter('b')
  assert.deepEqual([counter.total, counter.ofPeer('a'), counter.ofPeer('b'), counter.ofPeer('c')], [3, 2, 1, 0])
  first?.[Symbol.dispose]()
  first?.[Symbol.dispose]()
  assert.deepEqual([counter.total, counter.ofPeer('a')], [2, 1])
})

test('a peer at its limit leaves room for others, and the total is a limit for all', () => {
  const counter = new FlowCounter({ total: 3, perPeer: 2 })
  const entered = [counter.enter('a'), counter.enter('a'), counter.enter('a'), counter.enter('b'), counter.enter('c')]
  assert.deepEqual(
    entered.map((flow) => flow !== undefined),
    [true, true, false, true, false],
  )
  entered[0]?.[Symbol.dispose]()
  assert.notEqual(counter.enter('c'), undefined)
})

test('waiting for idleness ends with the last flow, or when the signal aborts', async () => {
  const counter = new FlowCounter({ total: 10, perPeer: 10 })
  const never = new AbortController().signal
  await counter.idle(never)
  const flows = [counter.enter('a'), counter.enter('b')]
  let isIdle = false
  const idle = counter.idle(never).then(() => {
    isIdle = true
  })
  flows[0]?.[Symbol.dispose]()
  await Promise.resolve()
  assert.equal(isIdle, false)
  await counter.idle(AbortSignal.abort())
  const stop = new AbortController()
  const givenUp = counter.idle(stop.signal)
  stop.abort()
  await givenUp
  flows[1]?.[Symbol.dispose]()
  await idle
})
