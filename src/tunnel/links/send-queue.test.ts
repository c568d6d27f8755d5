import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bulkBuffers } from '../../net/index.ts'
import { FrameBatch, FrameReader } from './frame.ts'
import { ReplayBuffer } from './replay-buffer.ts'
import { SendQueue } from './send-queue.ts'
import { WindowBudget } from './window-budget.ts'

const noLimit = Number.MAX_SAFE_INTEGER

function createQueue(replay?: ReplayBuffer) {
  const queue = new SendQueue(1, replay)
  const done: string[] = []
  const put = (...texts: string[]) => {
    const name = texts.join('')
    queue.put(
      texts.map((text) => Buffer.from(text)),
      () => void done.push(name),
    )
  }
  /** What one turn sends. */
  const fill = (room: number, limit = noLimit) => {
    const batch = new FrameBatch()
    const left = queue.fill(batch, room, limit)
    const texts: string[] = []
    const reader = new FrameReader({ onFrame() {}, onData: (_flow, bytes) => void texts.push(bytes.toString()) })
    for (const part of batch.take()) reader.feed(part)
    return [texts.join(''), left]
  }
  return { queue, put, fill, done }
}

test('a turn takes no more than its room, and the writer goes on when its last byte is on its way', () => {
  const { queue, put, fill, done } = createQueue()
  put('abc', 'def')
  assert.deepEqual(fill(2), ['ab', 0])
  assert.deepEqual(fill(3), ['cde', 0])
  assert.deepEqual([done, queue.isEmpty, queue.sent], [[], false, 5])
  assert.deepEqual(fill(3), ['f', 2])
  assert.deepEqual([done, queue.isEmpty, queue.sent], [['abcdef'], true, 6])
})

test('nothing goes beyond the limit', () => {
  const { put, fill } = createQueue()
  put('abcdef')
  assert.deepEqual(fill(10, 4), ['abcd', 6])
  assert.deepEqual(fill(10, 4), ['', 10])
  assert.deepEqual(fill(10, 6), ['ef', 8])
})

test('what the writer brings when it is told goes in the same turn', () => {
  const { queue, fill } = createQueue()
  queue.put([Buffer.from('first ')], () => queue.put([Buffer.from('second')], () => {}))
  assert.deepEqual(fill(100), ['first second', 88])
})

test('what has to be sent again comes first, is counted once, and is beyond no limit', () => {
  const { queue, put, fill } = createQueue(new ReplayBuffer(new WindowBudget()))
  put('abcdef')
  fill(4)
  queue.repeat([Buffer.from('bc'), Buffer.from('d')])
  assert.deepEqual([queue.offset, queue.hasRepeats], [1, true])
  assert.deepEqual(fill(1, 4), ['b', 0])
  assert.equal(queue.offset, 2)
  assert.deepEqual(fill(10, 5), ['cde', 7])
  assert.deepEqual([queue.hasRepeats, queue.sent], [false, 5])
})

/** Whether the buffer is the next one of the pool; leaves the pool as it was. */
function isFree(buffer: Buffer): boolean {
  const next = bulkBuffers.take()
  const isIt = next.buffer === buffer.buffer
  bulkBuffers.give(next)
  return isIt
}

test('a buffer of the pool is free once it is sent whole, or between ends that resume once it has arrived', () => {
  for (const replay of [undefined, new ReplayBuffer(new WindowBudget())]) {
    const { queue, fill } = createQueue(replay)
    const buffer = bulkBuffers.take()
    queue.put([buffer.subarray(0, 10)], () => {})
    fill(4)
    replay?.acknowledge(4)
    assert.equal(isFree(buffer), false)
    fill(6)
    assert.equal(isFree(buffer), replay === undefined)
    replay?.acknowledge(10)
    assert.equal(isFree(buffer), true)
  }
})

test('a buffer that is sent again is not used again', () => {
  const replay = new ReplayBuffer(new WindowBudget())
  const { queue, fill } = createQueue(replay)
  const buffer = bulkBuffers.take()
  queue.put([buffer.subarray(0, 10)], () => {})
  fill(10)
  assert.equal(replay.since(0)?.length, 1)
  replay.acknowledge(10)
  assert.equal(isFree(buffer), false)
})
