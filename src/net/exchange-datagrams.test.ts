import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import type { DatagramChannel } from './dialer.ts'
import { exchangeDatagrams } from './exchange-datagrams.ts'

function createChannel() {
  const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>()
  const channel = {
    sent: [] as string[],
    isDisposed: false,
    receive: (_message: string) => {},
    end: resolve,
  }
  const ends: DatagramChannel = {
    send: (message) => void channel.sent.push(Buffer.from(message).toString()),
    onMessage(listener) {
      channel.receive = (message) => listener(Buffer.from(message))
    },
    closed,
    [Symbol.dispose]() {
      channel.isDisposed = true
    },
  }
  return Object.assign(channel, { ends })
}

const never = new AbortController().signal

test('datagrams pass both ways until one side is over, and then both are closed', async () => {
  const [left, right] = [createChannel(), createChannel()]
  const exchanging = exchangeDatagrams(left.ends, right.ends, never)
  left.receive('question')
  right.receive('answer')
  assert.deepEqual([right.sent, left.sent], [['question'], ['answer']])
  right.end(undefined)
  await exchanging
  assert.deepEqual([left.isDisposed, right.isDisposed], [true, true])
})

test('an abort closes both sides, also one that came before', async () => {
  const stopping = new AbortController()
  const [left, right] = [createChannel(), createChannel()]
  const exchanging = exchangeDatagrams(left.ends, right.ends, stopping.signal)
  stopping.abort()
  await exchanging
  assert.deepEqual([left.isDisposed, right.isDisposed], [true, true])
  const late = createChannel()
  await exchangeDatagrams(late.ends, createChannel().ends, stopping.signal)
  assert.ok(late.isDisposed)
})

test('a session without datagrams for three minutes ends, one with any goes on', async (context) => {
  mock.timers.enable({ apis: ['setTimeout'] })
  context.after(() => mock.timers.reset())
  const [left, right] = [createChannel(), createChannel()]
  const exchanging = exchangeDatagrams(left.ends, right.ends, never)
  mock.timers.tick(179_000)
  left.receive('still here')
  mock.timers.tick(179_000)
  await Promise.resolve()
  assert.ok(!left.isDisposed)
  mock.timers.tick(2000)
  await exchanging
  assert.ok(left.isDisposed)
})
