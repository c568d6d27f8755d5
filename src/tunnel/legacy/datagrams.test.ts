import assert from 'node:assert/strict'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { renewDatagrams } from '../flows/renewed-datagrams.ts'
import { createStreamCarrier, incomingFlowOf } from '../flows/stream-carrier.ts'
import { goDatagrams } from './datagrams.ts'
import { encodeMessage, messageTypes, readMessage } from './messages.ts'
import { proxyMessages } from './proxy-handshake.ts'

const never = new AbortController().signal
const target = { protocol: 'udp', nodeName: 'ke-edge1', address: '10.244.0.8', port: 53 } as const

// As agents of the Go system write it.
const requestHex = '1f08001203' + '756470' + '1a08' + '6b652d6564676531' + '220a31302e3234342e302e38' + '2835'

/** Both ends of a stream, of which the second one is reset by the first. */
function createPair(options: { readonly highWaterMark?: number } = {}) {
  const [near, far] = createMemoryStreamPair(options)
  far.on('error', () => {})
  return [near, far] as const
}

/** What comes out of a stream, read by read. */
function readsOf(stream: NodeJS.ReadableStream): string[] {
  const reads: string[] = []
  stream.on('data', (chunk: Buffer) => void reads.push(String(chunk)))
  return reads
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
}

suite('datagrams of the Go system', () => {
  test('are asked for as it does', () => {
    const { address: ip, ...rest } = target
    assert.equal(encodeMessage({ type: messageTypes.connect, ...rest, ip }).toString('hex'), requestHex)
  })

  test('travel as they are, one write each, after the answer', async () => {
    const [near, far] = createPair()
    const carrier = createStreamCarrier({ peerId: 'peer', path: 'direct' }, () =>
      Promise.resolve({ stream: near, messages: proxyMessages }),
    )
    const opening = carrier.openDatagrams(target, never)
    const request = await readMessage(far, never)
    assert.deepEqual([request?.protocol, request?.ip, request?.port], ['udp', '10.244.0.8', 53])
    far.write(encodeMessage({ type: messageTypes.success }))
    using channel = await opening
    const reads = readsOf(far)
    for (const message of ['one', 'two', 'three']) {
      channel.send(Buffer.from(message))
      await settle()
    }
    assert.deepEqual(reads, ['one', 'two', 'three'])
    const answers: string[] = []
    channel.onMessage((message) => void answers.push(String(message)))
    far.write('first')
    far.write('second')
    await settle()
    assert.deepEqual(answers, ['first', 'second'])
  })

  test('are served when an agent of the Go system asks for them', async () => {
    const [far, dialler] = createPair()
    dialler.write(Buffer.from(requestHex, 'hex'))
    const flow = await incomingFlowOf(far, proxyMessages, never)
    assert.deepEqual(flow?.request, target)
    using channel = await flow?.acceptDatagrams(never)
    assert.equal((await readMessage(dialler, never))?.type, messageTypes.success)
    const questions: string[] = []
    channel?.onMessage((message) => {
      questions.push(String(message))
      channel.send(Buffer.from('answer'))
    })
    const reads = readsOf(dialler)
    dialler.write('question')
    await settle()
    assert.deepEqual([questions, reads], [['question'], ['answer']])
  })

  test('that its readers would cut, and empty ones, are not sent', async () => {
    const [near, far] = createPair()
    const reads = readsOf(far)
    using channel = goDatagrams.over(near)
    channel.send(Buffer.alloc(4097))
    channel.send(Buffer.alloc(0))
    channel.send(Buffer.alloc(4096))
    await settle()
    assert.deepEqual(
      reads.map(({ length }) => length),
      [4096],
    )
  })

  test('are dropped when they would be sent in parts or together', async () => {
    const [near, far] = createPair({ highWaterMark: 8 })
    const [tight] = createPair()
    Object.assign(tight, { roomBytes: 100 })
    using narrow = goDatagrams.over(tight)
    narrow.send(Buffer.alloc(89))
    assert.equal(tight.writableLength, 0)
    narrow.send(Buffer.alloc(88))
    assert.equal(tight.writableLength, 88)
    using channel = goDatagrams.over(near)
    channel.send(Buffer.from('the first'))
    await settle()
    channel.send(Buffer.from('the second'))
    const reads = readsOf(far)
    await settle()
    assert.deepEqual(reads, ['the first'])
  })

  test('leave no stream behind: its agent would read on after an orderly end', async () => {
    const [near, far] = createPair()
    const channel = goDatagrams.over(near)
    channel[Symbol.dispose]()
    const [error] = await once(far, 'error')
    assert.equal(error.code, 'ECONNRESET')
    assert.equal(await channel.closed, undefined)
  })

  test('end with the connection below, and say why', async () => {
    const [near] = createPair()
    const loss = new Error('the path is gone')
    const channel = renewDatagrams(goDatagrams.over(near), { open: () => assert.fail('too early'), idleMs: 700 })
    near.destroy(loss)
    assert.equal(await channel.closed, loss)
  })
})
