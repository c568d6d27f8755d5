import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createMemoryStreamPair } from '../../net/index.ts'
import { GatheredOutput } from './gathered-output.ts'

function createOutput(highWaterMark = 65_536) {
  const [near, far] = createMemoryStreamPair({ highWaterMark })
  const written: string[] = []
  const write = near.write.bind(near)
  const noting = (chunk: Buffer | string, encoding?: unknown) => {
    written.push(chunk.toString('latin1'))
    return write(chunk, encoding as 'latin1')
  }
  Object.assign(near, { write: noting })
  for (const stream of [near, far]) stream.on('error', () => {})
  return { near, far, written, output: new GatheredOutput(near) }
}

test('what is written in one turn leaves in one piece', async () => {
  const { written, output } = createOutput()
  assert.equal(output.text('head\r\n'), true)
  assert.equal(output.bytes('5\r\n', Buffer.from('b\xff\0dy', 'latin1'), '\r\n'), true)
  assert.equal(output.text(''), true)
  assert.deepEqual(written, [])
  await turn()
  assert.deepEqual(written, ['head\r\n5\r\nb\xff\0dy\r\n'])
})

test('a large chunk leaves at once behind what was held back, and may be overwritten', () => {
  const { written, output } = createOutput()
  const chunk = Buffer.alloc(10_000, 'a')
  output.text('head ')
  output.bytes('<', chunk, '>')
  chunk.fill('b')
  assert.deepEqual(written, [`head <${'a'.repeat(10_000)}>`])
})

test('several connections are written to in the order in which they were first', async () => {
  const order: string[] = []
  const outputs = ['one', 'two'].map((name) => {
    const { near, output } = createOutput()
    Object.assign(near, { write: () => order.push(name) })
    return output
  })
  for (const output of [...outputs, ...outputs]) output.text('x')
  await turn()
  assert.deepEqual(order, ['one', 'two'])
})

test('a writer is asked to wait when more is held than the stream takes', async () => {
  const { near, far, output } = createOutput(8)
  assert.equal(output.text('1234'), true)
  assert.equal(output.text('5678'), false)
  await turn()
  assert.equal(near.writableNeedDrain, true)
  assert.equal(output.text('9'), false)
  far.resume()
  await new Promise((resolve) => near.once('drain', resolve))
  assert.equal(near.writableNeedDrain, false)
})

test('a writer is not asked to wait for a stream that takes everything at once, because no drain would follow', async () => {
  const { near, written, output } = createOutput(8)
  Object.assign(near, { write: (text: string) => written.push(text) > 0 })
  for (const text of ['1234', '5678', '9']) assert.equal(output.text(text), true)
  assert.deepEqual(written, ['12345678'])
  await turn()
  assert.deepEqual(written, ['12345678', '9'])
})

test('the end comes behind what is held back, and nothing is written after it', async () => {
  const { far, written, output } = createOutput()
  output.text('last')
  output.end()
  output.text('too late')
  assert.equal(output.bytes('', Buffer.alloc(10_000), ''), true)
  far.resume()
  await turn()
  assert.deepEqual(written, ['last'])
})
