import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type ByteStream, createMemoryStreamPair, DialError } from '../../net/index.ts'
import type { Carrier } from '../flows/carrier.ts'
import type { OpenRequest } from '../flows/open-message.ts'
import { createHedgedCarrier } from './hedged-carrier.ts'

const request: OpenRequest = { protocol: 'tcp', nodeName: 'edge-b1', address: '10.1.1.1', port: 80 }
const never = new AbortController().signal

/** A carrier whose answers the test gives. */
interface Way extends Carrier {
  readonly signals: AbortSignal[]
  answer(stream: ByteStream): void
  fail(error: Error): void
}

function createWay(path: string): Way {
  const { promise, resolve, reject } = Promise.withResolvers<ByteStream>()
  promise.catch(() => {})
  const signals: AbortSignal[] = []
  return {
    peerId: 'peer',
    path,
    signals,
    open: async (_request, signal) => {
      signals.push(signal)
      return await promise
    },
    openDatagrams: () => Promise.reject(new Error('not here')),
    answer: resolve,
    fail: reject,
  }
}

interface Others {
  readonly hasOther?: boolean
  readonly failures?: number
  /** Another way is sought, and never found. */
  readonly isSeekingForEver?: boolean
}

function createHedge(options: Others = {}) {
  const primary = createWay('relayed via one')
  const other = createWay('relayed via two')
  const { promise: asked, resolve: onAsked } = Promise.withResolvers<void>()
  const seen = { heardMs: 0, probes: 0, silences: 0, tries: 0, asked }
  const carrier = createHedgedCarrier(primary, {
    afterMs: () => 10,
    lastHeardMs: () => seen.heardMs,
    probe: () => {
      seen.probes += 1
    },
    alternative: async () => {
      onAsked()
      seen.tries += 1
      if (options.isSeekingForEver) await new Promise(() => {})
      if (seen.tries <= (options.failures ?? 0)) throw new Error('the peer is not connected to this relay')
      return options.hasOther === false ? undefined : other
    },
    onSilent: () => {
      seen.silences += 1
    },
  })
  return { carrier, primary, other, seen }
}

const [stream, otherStream] = createMemoryStreamPair()

suite('a flow', () => {
  test('is opened once when the peer answers', async () => {
    const { carrier, primary, other } = createHedge()
    primary.answer(stream)
    assert.equal(await carrier.open(request, never), stream)
    assert.equal(other.signals.length, 0)
  })

  test('is opened on another way as well when nothing is heard, and the silent one is told of', async () => {
    const { carrier, primary, other, seen } = createHedge()
    other.answer(otherStream)
    assert.equal(await carrier.open(request, never), otherStream)
    assert.deepEqual([seen.probes, seen.silences], [1, 1])
    assert.equal(primary.signals[0]?.aborted, true)
  })

  test('is opened on the other way as soon as that works, also when it did not at first', async () => {
    const { carrier, other, seen } = createHedge({ failures: 3 })
    other.answer(otherStream)
    assert.equal(await carrier.open(request, never), otherStream)
    assert.deepEqual([seen.tries, seen.silences], [4, 1])
  })

  test('is not tried on other ways any more when the peer has been heard meanwhile', async () => {
    const { carrier, primary, seen } = createHedge({ failures: 1000 })
    const opening = carrier.open(request, never)
    await seen.asked
    seen.heardMs = Number.POSITIVE_INFINITY
    const { tries } = seen
    await new Promise((resolve) => setTimeout(resolve, 50))
    assert.ok(seen.tries <= tries + 1, `${seen.tries} tries`)
    primary.answer(stream)
    assert.equal(await opening, stream)
  })

  test('is opened on another way also when the peer was heard once more, and then fell silent', async () => {
    const { carrier, other, seen } = createHedge()
    other.answer(otherStream)
    const opening = carrier.open(request, never)
    seen.heardMs = performance.now()
    assert.equal(await opening, otherStream)
    assert.deepEqual([seen.probes, seen.silences], [1, 1])
  })

  test('may still be answered on the first way', async () => {
    const { carrier, primary, other, seen } = createHedge()
    const opening = carrier.open(request, never)
    await seen.asked
    primary.answer(stream)
    assert.equal(await opening, stream)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(other.signals[0]?.aborted, true)
    assert.equal(seen.silences, 0)
  })

  test('that is opened too late is ended', async () => {
    const { carrier, primary, other } = createHedge()
    const [late, farEnd] = createMemoryStreamPair()
    farEnd.on('error', () => {})
    other.answer(otherStream)
    await carrier.open(request, never)
    primary.answer(late)
    await new Promise((resolve) => setImmediate(resolve))
    assert.equal(late.destroyed, true)
  })

  test('fails with the answer of the far end, whoever brings it', async () => {
    const { carrier, other } = createHedge()
    other.fail(new DialError('refused', 'nobody listens'))
    await assert.rejects(carrier.open(request, never), { failure: 'refused' })
  })

  test('waits for the first way when there is no other', async () => {
    const { carrier, primary, seen } = createHedge({ hasOther: false })
    const opening = carrier.open(request, never)
    await seen.asked
    primary.answer(stream)
    assert.equal(await opening, stream)
  })

  test('fails when no way works', async () => {
    const { carrier, primary, other, seen } = createHedge()
    const opening = carrier.open(request, never)
    await seen.asked
    primary.fail(new Error('lost'))
    other.fail(new Error('lost as well'))
    await assert.rejects(opening, /lost as well/)
  })

  test('is given up on all ways with the signal', async () => {
    const { carrier, primary, other, seen } = createHedge()
    const gone = new AbortController()
    const opening = carrier.open(request, gone.signal)
    await seen.asked
    await new Promise((resolve) => setImmediate(resolve))
    gone.abort(new Error('the client went away'))
    assert.deepEqual([primary.signals[0]?.aborted, other.signals[0]?.aborted], [true, true])
    for (const way of [primary, other]) way.fail(new Error('aborted'))
    await assert.rejects(opening)
  })

  test('that is given up does not wait for another way that is being sought', async () => {
    const { carrier, primary, seen } = createHedge({ isSeekingForEver: true })
    const gone = new AbortController()
    const opening = carrier.open(request, gone.signal)
    await seen.asked
    gone.abort(new Error('the client went away'))
    primary.fail(new Error('aborted'))
    await assert.rejects(opening)
  })
})

test('a slow target on a way that is heard is waited for', async () => {
  const { carrier, primary, other, seen } = createHedge()
  const opening = carrier.open(request, never)
  seen.heardMs = Number.POSITIVE_INFINITY
  await new Promise((resolve) => setTimeout(resolve, 30))
  primary.answer(stream)
  assert.equal(await opening, stream)
  assert.equal(other.signals.length, 0)
})
