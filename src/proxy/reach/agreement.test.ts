import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { proposeTerms, readTerms, termsSeconds, writeReply } from './agreement.ts'

const { signal } = new AbortController()

test('both ends have the same key afterwards, and the one that asks knows for how long', async () => {
  const [ours, theirs] = createMemoryStreamPair()
  const answering = (async () => {
    const terms = await readTerms(theirs, signal)
    await writeReply(theirs)
    return terms
  })()
  const { forMs, id, key } = await proposeTerms(ours, signal)
  assert.deepEqual(await answering, { id, key })
  assert.equal(forMs, termsSeconds * 1_000)
})

test('keys differ each time', async () => {
  const proposals = await Promise.all(
    [1, 2].map(async () => {
      const [ours, theirs] = createMemoryStreamPair()
      const answering = readTerms(theirs, signal).then(() => writeReply(theirs))
      const { key } = await proposeTerms(ours, signal)
      await answering
      return key.toString('hex')
    }),
  )
  assert.equal(new Set(proposals).size, 2)
})

test('a node that answers with anything else takes no key', async () => {
  for (const reply of ['', 'no', '{}', '{"seconds":0}']) {
    const [ours, theirs] = createMemoryStreamPair()
    theirs.resume()
    theirs.end(reply)
    await assert.rejects(proposeTerms(ours, signal), /takes no key/, reply)
  }
})

test('whoever brings no key, or says more than needed, is not listened to', async () => {
  for (const text of ['', 'hello', '{"id":"00"}', JSON.stringify({ id: '0'.repeat(16), key: 'x'.repeat(64) })]) {
    const [ours, theirs] = createMemoryStreamPair()
    ours.end(text)
    await assert.rejects(readTerms(theirs, signal), Error, text)
  }
  const [ours, theirs] = createMemoryStreamPair()
  ours.write('x'.repeat(10_000))
  await assert.rejects(readTerms(theirs, signal), /more was said/)
})

test('a flow that breaks, and a signal that aborts, end the wait', async () => {
  const [ours, theirs] = createMemoryStreamPair()
  const reading = readTerms(theirs, signal)
  ours.destroy()
  await assert.rejects(reading)
  const [left, right] = createMemoryStreamPair()
  right.on('error', () => {}).resume()
  const stop = new AbortController()
  const proposing = proposeTerms(left, stop.signal)
  stop.abort(new Error('stopping'))
  await assert.rejects(proposing, /stopping/)
  assert.equal(left.destroyed, true)
})
