import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair, DialError } from '../../net/index.ts'
import { frameType } from './frame.ts'
import { IncomingOpen } from './incoming-open.ts'
import type { Link } from './link.ts'

const request = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const
const [stream] = createMemoryStreamPair()

function createIncoming() {
  const sent: (readonly [number, number, string])[] = []
  const left: number[] = []
  const link = {
    flows: 0,
    control: (type: number, id: number, payload?: Buffer) => void sent.push([type, id, payload?.toString() ?? '']),
  }
  const owner = {
    leave: (id: number) => void left.push(id),
    beginStream: () => stream,
    beginDatagrams: () => {
      throw new Error('not here')
    },
  }
  return { sent, left, link, incoming: new IncomingOpen(5, link as unknown as Link, request, owner) }
}

test('a flow that is accepted is answered, and its place is free for the stream', async () => {
  const { incoming, sent, left, link } = createIncoming()
  assert.equal(link.flows, 1)
  assert.equal(await incoming.accept(), stream)
  assert.deepEqual([sent, left, link.flows], [[[frameType.ok, 5, '']], [5], 0])
})

test('a refusal says why not', async () => {
  const { incoming, sent, left } = createIncoming()
  await incoming.refuse(new DialError('refused', 'nobody listens'))
  const text = JSON.stringify({ error: { failure: 'refused', message: 'nobody listens' } })
  assert.deepEqual([sent, left], [[[frameType.error, 5, text]], [5]])
})

test('a dialler that went away is known by the signal, and gets no answer', async () => {
  const { incoming, sent, left, link } = createIncoming()
  incoming.lose(new Error('the dialler went away'))
  assert.equal(incoming.gone.aborted, true)
  await assert.rejects(incoming.accept(), /the dialler went away/)
  incoming.abandon(new Error('too late'))
  assert.deepEqual([sent, left, link.flows], [[], [5], 0])
})

test('what is abandoned is reset once, with a reason of bounded length', () => {
  const { incoming, sent, left } = createIncoming()
  incoming.abandon(new Error('x'.repeat(5_000)))
  incoming.abandon(new Error('again'))
  incoming.lose(new Error('the link was lost'))
  assert.deepEqual([sent.length, sent[0]?.[2].length, left], [1, 1_024, [5]])
  assert.equal(incoming.gone.aborted, false)
})
