import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMemoryStreamPair, DialError } from '../../net/index.ts'
import { FrameError } from '../frames.ts'
import { answerNames, exchangeNames } from './discovery.ts'
import { encodeMessage, messageTypes, readMessage } from './messages.ts'
import { proxyMessages } from './proxy-handshake.ts'

const never = new AbortController().signal
const target = { protocol: 'tcp', nodeName: 'ke-edge1', address: '10.244.0.8', port: 8080 } as const

suite('the proxy protocol of the Go system', () => {
  test('opens a flow, and the bytes after the answer are the flow', async () => {
    const [dialler, far] = createMemoryStreamPair()
    const opened = proxyMessages.request(dialler, target, never)
    assert.deepEqual(await proxyMessages.read(far, never), target)
    await proxyMessages.answerOk(far, target, never)
    far.end('banner')
    await opened
    assert.equal(String(Buffer.concat(await dialler.toArray())), 'banner')
  })

  test('a failure is a dial error that says whose agent failed', async () => {
    const [dialler, far] = createMemoryStreamPair()
    const opened = proxyMessages.request(dialler, target, never)
    await proxyMessages.read(far, never)
    await proxyMessages.answerError(far, new DialError('refused', 'whatever'), never)
    await assert.rejects(opened, (error) => {
      assert.ok(error instanceof DialError)
      assert.equal(error.failure, 'refused')
      assert.match(error.message, /10\.244\.0\.8:8080 on ke-edge1/)
      return true
    })
  })

  test('an end without an answer is no success', async () => {
    const [dialler, far] = createMemoryStreamPair()
    far.end()
    await assert.rejects(proxyMessages.request(dialler, target, never), FrameError)
  })

  test('cannot reach ports of the node itself', async () => {
    const [dialler] = createMemoryStreamPair()
    await assert.rejects(
      proxyMessages.request(dialler, { ...target, kind: 'node' }, never),
      /more of ke-edge1 than its endpoints/,
    )
  })

  for (const [what, change] of Object.entries({
    'another protocol': { protocol: 'sctp' },
    'no address': { ip: '' },
    'a name for an address': { ip: 'localhost' },
    'a port beyond the last': { port: 65_536 },
    'a negative port': { port: 2 ** 64 },
    'an answer for a question': { type: messageTypes.success },
    'no node': { nodeName: '' },
  })) {
    test(`refuses ${what}`, async () => {
      const [dialler, far] = createMemoryStreamPair()
      const request = { type: messageTypes.connect, protocol: 'tcp', nodeName: 'ke-edge1', ip: '10.244.0.8', port: 80 }
      dialler.write(encodeMessage({ ...request, ...change }))
      await assert.rejects(proxyMessages.read(far, never), FrameError)
    })
  }

  test('a dialler that leaves before it asks asks nothing', async () => {
    const [dialler, far] = createMemoryStreamPair()
    dialler.end()
    assert.equal(await proxyMessages.read(far, never), undefined)
  })
})

suite('the discovery protocol of the Go system', () => {
  test('two nodes tell each other their names, and the finder resets the stream', async () => {
    const [finder, found] = createMemoryStreamPair()
    const closed = new Promise((resolve) => found.on('error', () => {}).once('close', resolve))
    const [theirs, ours] = await Promise.all([
      answerNames(found, 'ke-edge2', never),
      exchangeNames(finder, 'MDNS', 'ke-edge1', never),
    ])
    assert.deepEqual([theirs, ours], ['ke-edge1', 'ke-edge2'])
    await closed
  })

  test('the answer tells how the node was found', async () => {
    const [finder, found] = createMemoryStreamPair()
    const answered = answerNames(found, 'ke-edge2', never)
    finder.write(encodeMessage({ type: messageTypes.connect, protocol: 'DHT', nodeName: 'ke-edge1' }))
    const answer = await readMessage(finder, never)
    assert.deepEqual(answer, { type: messageTypes.success, protocol: 'DHT', nodeName: 'ke-edge2' })
    assert.equal(await answered, 'ke-edge1')
  })

  test('a finder without a name gets no answer', async () => {
    const [finder, found] = createMemoryStreamPair()
    finder.on('error', () => {}).end(encodeMessage({ type: messageTypes.connect, protocol: 'MDNS' }))
    assert.equal(await answerNames(found, 'ke-edge2', never), undefined)
    assert.ok(found.destroyed)
  })

  test('nothing is left of the stream when the other node does not answer', async () => {
    const [finder, found] = createMemoryStreamPair()
    found.on('error', () => {})
    const stop = new AbortController()
    const asking = exchangeNames(finder, 'MDNS', 'ke-edge1', stop.signal)
    stop.abort(new Error('no answer in time'))
    await assert.rejects(asking, /no answer in time/)
    assert.ok(finder.destroyed)
  })
})
