import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { datagramsOver } from './stream-datagrams.ts'

test('messages keep their borders however the stream cuts them', async () => {
  const [near, far] = createMemoryStreamPair()
  const messages: string[] = []
  datagramsOver(far).onMessage((message) => void messages.push(message.toString()))
  const encoded = Buffer.from('\0\x05hello\0\0\0\x03abc', 'latin1')
  for (const byte of encoded) near.write(Buffer.of(byte))
  near.end()
  await once(far, 'close')
  assert.deepEqual(messages, ['hello', '', 'abc'])
})

test('messages go both ways, and closing one side closes the other', async () => {
  const [near, far] = createMemoryStreamPair()
  const [left, right] = [datagramsOver(near), datagramsOver(far)]
  const received = new Promise<string>((resolve) => right.onMessage((message) => resolve(message.toString())))
  left.send(Buffer.from('question'))
  assert.equal(await received, 'question')
  const answered = new Promise<string>((resolve) => left.onMessage((message) => resolve(message.toString())))
  right.send(Buffer.from('answer'))
  assert.equal(await answered, 'answer')
  left[Symbol.dispose]()
  assert.equal(await right.closed, undefined)
})

test('while the stream is full messages are dropped, and what does not fit a length is too', () => {
  const [near] = createMemoryStreamPair({ highWaterMark: 1000 })
  const channel = datagramsOver(near)
  channel.send(Buffer.alloc(70_000))
  assert.equal(near.writableLength, 0)
  for (let count = 0; count < 100; count++) channel.send(Buffer.alloc(500))
  assert.ok(near.writableLength < 3000, `${near.writableLength} bytes wait`)
})

test('a lost stream ends the channel with the reason', async () => {
  const [near, far] = createMemoryStreamPair()
  far.on('error', () => {})
  const channel = datagramsOver(near)
  const loss = new Error('the path is gone')
  near.destroy(loss)
  assert.equal(await channel.closed, loss)
})
