import assert from 'node:assert/strict'
import { suite, type TestContext, test } from 'node:test'
import type { DatagramChannel } from '../../net/index.ts'
import { renewDatagrams } from './renewed-datagrams.ts'

/** A channel that notes what is sent. */
class PlayedChannel implements DatagramChannel {
  readonly sent: string[] = []
  readonly #closed = Promise.withResolvers<Error | undefined>()
  readonly closed = this.#closed.promise
  isDisposed = false
  receive: (message: Buffer) => void = () => {}

  send(message: Uint8Array): void {
    this.sent.push(String(message))
  }

  onMessage(listener: (message: Buffer) => void): void {
    this.receive = listener
  }

  close(reason?: Error): void {
    this.#closed.resolve(reason)
  }

  [Symbol.dispose](): void {
    this.isDisposed = true
    this.close()
  }
}

function renewing(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const first = new PlayedChannel()
  const opened: PlayedChannel[] = [first]
  let nowMs = 0
  let failure: Error | undefined
  const open = () => {
    if (failure !== undefined) return Promise.reject(failure)
    const next = new PlayedChannel()
    opened.push(next)
    return Promise.resolve(next)
  }
  const channel = renewDatagrams(first, { open, idleMs: 700, nowMs: () => nowMs })
  t.after(() => channel[Symbol.dispose]())
  return {
    channel,
    opened,
    fail: (error: Error) => {
      failure = error
    },
    pass(ms: number) {
      nowMs += ms
      t.mock.timers.tick(ms)
    },
  }
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve))
const sentOn = (opened: readonly PlayedChannel[]) => opened.map(({ sent }) => sent)

suite('a channel that the far end forgets when it is idle', () => {
  test('is used as long as datagrams pass, whichever way', async (t) => {
    const { channel, opened, pass } = renewing(t)
    channel.send(Buffer.from('a'))
    pass(600)
    channel.send(Buffer.from('b'))
    pass(600)
    opened[0]?.receive(Buffer.from('pushed'))
    pass(600)
    channel.send(Buffer.from('c'))
    await settle()
    assert.deepEqual(sentOn(opened), [['a', 'b', 'c']])
  })

  test('is replaced by another one for what is sent later, in order', async (t) => {
    const { channel, opened, pass } = renewing(t)
    channel.send(Buffer.from('a'))
    pass(700)
    for (const message of ['b', 'c']) channel.send(Buffer.from(message))
    await settle()
    channel.send(Buffer.from('d'))
    assert.deepEqual(sentOn(opened), [['a'], ['b', 'c', 'd']])
  })

  test('still brings the answers of a slow target for a moment, then it is closed', async (t) => {
    const { channel, opened, pass } = renewing(t)
    const answers: string[] = []
    channel.onMessage((message) => void answers.push(String(message)))
    pass(700)
    channel.send(Buffer.from('again'))
    await settle()
    opened[0]?.receive(Buffer.from('late'))
    opened[1]?.receive(Buffer.from('answer'))
    assert.deepEqual(answers, ['late', 'answer'])
    assert.equal(opened[0]?.isDisposed, false)
    pass(1000)
    assert.equal(opened[0]?.isDisposed, true)
    // The end of the old one is not the end of all.
    channel.send(Buffer.from('on'))
    await settle()
    assert.deepEqual(opened.at(-1)?.sent.at(-1), 'on')
  })

  test('does not let datagrams wait without bound', async (t) => {
    const { channel, opened, pass } = renewing(t)
    pass(700)
    for (let count = 0; count < 1000; count++) channel.send(Buffer.from(`${count}`))
    await settle()
    assert.equal(opened[1]?.sent.length, 64)
  })

  test('is over when it is lost, or when no other one can be opened', async (t) => {
    const lost = renewing(t)
    const loss = new Error('the path is gone')
    lost.opened[0]?.close(loss)
    assert.equal(await lost.channel.closed, loss)
    t.mock.timers.reset()
    const refused = renewing(t)
    const refusal = new Error('refused')
    refused.fail(refusal)
    refused.pass(700)
    refused.channel.send(Buffer.from('a'))
    assert.equal(await refused.channel.closed, refusal)
    assert.equal(refused.opened[0]?.isDisposed, true)
  })

  test('leaves nothing behind, also while another one is being opened', async (t) => {
    const { channel, opened, pass } = renewing(t)
    pass(700)
    channel.send(Buffer.from('a'))
    channel[Symbol.dispose]()
    await settle()
    assert.deepEqual(
      opened.map(({ isDisposed }) => isDisposed),
      [true, true],
    )
    assert.equal(await channel.closed, undefined)
    channel.send(Buffer.from('too late'))
    assert.equal(opened.flatMap(({ sent }) => sent).length, 0)
  })
})
