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

/** Enters flows of datagrams; gives who was ended so far. */
function enterDatagrams(counter: FlowCounter, names: readonly string[]) {
  const ended: string[] = []
  const flows = names.map((name) => {
    const flow = counter.enter(name.charAt(0))
    assert.ok(flow !== undefined, name)
    flow.mayBeEnded(() => ended.push(name))
    return flow
  })
  return { flows, ended }
}

test('at the limit of a peer that flow of datagrams gives way that was quiet longest', () => {
  let evicted = 0
  const counter = new FlowCounter({ total: 10, perPeer: 3 }, () => evicted++)
  const { flows, ended } = enterDatagrams(counter, ['b1', 'a1', 'a2', 'a3'])
  flows[1]?.used()
  assert.notEqual(counter.enter('a'), undefined)
  assert.deepEqual([ended, counter.ofPeer('a'), counter.total, evicted], [['a2'], 3, 4, 1])
  // It has left already.
  flows[2]?.[Symbol.dispose]()
  flows[2]?.used()
  flows[2]?.mayBeEnded(() => assert.fail('ended twice'))
  assert.equal(counter.ofPeer('a'), 3)
  counter.enter('a')
  counter.enter('a')
  assert.deepEqual([ended, counter.enter('a'), counter.total], [['a2', 'a3', 'a1'], undefined, 4])
})

test('what has asked once gives way before what goes on, unless it may still wait for its answer', (context) => {
  context.mock.method(performance, 'now', () => nowMs)
  let nowMs = 0
  const counter = new FlowCounter({ total: 10, perPeer: 2 })
  const { flows, ended } = enterDatagrams(counter, ['a1', 'a2'])
  for (let datagram = 0; datagram < 5; datagram++) flows[0]?.used()
  nowMs = 1000
  flows[1]?.used()
  nowMs = 2999
  const waiting = enterDatagrams(counter, ['a3'])
  assert.deepEqual(ended, ['a1'])
  for (let datagram = 0; datagram < 6; datagram++) waiting.flows[0]?.used()
  nowMs = 3001
  waiting.flows[0]?.used()
  const last = enterDatagrams(counter, ['a4'])
  assert.deepEqual([ended, waiting.ended], [['a1', 'a2'], []])
  nowMs = 5001
  waiting.flows[0]?.[Symbol.dispose]()
  counter.enter('a')
  assert.deepEqual(last.ended, [])
  counter.enter('a')
  assert.deepEqual([last.ended, counter.total], [['a4'], 2])
})

test('at the total limit the peer with most flows of datagrams pays', () => {
  const counter = new FlowCounter({ total: 4, perPeer: 10 })
  const { ended } = enterDatagrams(counter, ['b1', 'a1', 'a2'])
  counter.enter('c')
  assert.notEqual(counter.enter('b'), undefined)
  assert.deepEqual([ended, counter.ofPeer('a'), counter.ofPeer('b'), counter.total], [['a1'], 1, 2, 4])
})
