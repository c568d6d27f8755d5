import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { readFrame, writeFrame } from '../frames.ts'
import type { Host, ProtocolHandler } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { SpliceBook } from './splice-book.ts'
import { spliceFrameLimitBytes } from './splice-messages.ts'
import { serveSplices } from './splice-server.ts'

const never = new AbortController().signal

/** A relay that is connected to `b`, which gets `offered`; what `a` is answered that asks for `b`. */
async function startRelay(t: TestContext) {
  let handler: ProtocolHandler['onStream'] = () => {}
  const opened: ByteStream[] = []
  const toPeer = {
    peerId: 'b',
    relayPeerId: undefined,
    openStream: async () => {
      const [near, far] = createMemoryStreamPair()
      far.on('error', () => {})
      opened.push(near)
      offered.push(far)
      return near
    },
  } as unknown as PeerConnection
  const offered: ByteStream[] = []
  const host = {
    handle: async ({ onStream }: ProtocolHandler) => {
      handler = onStream
    },
    unhandle: async () => {},
    handleRaw: () => ({ [Symbol.dispose]() {} }),
    connectionsTo: (peerId: string) => (peerId === 'b' ? [toPeer] : []),
  } as unknown as Host
  const splices = new SpliceBook()
  const served = await serveSplices({
    host,
    splices,
    logger: silentLogger,
    metrics: createMetrics(),
    onCapped() {},
    nameOf: (peerId) => peerId,
  })
  t.after(() => served[Symbol.asyncDispose]())
  return {
    opened,
    offered,
    splices,
    async ask(peer: string): Promise<unknown> {
      const [near, far] = createMemoryStreamPair()
      for (const stream of [near, far]) stream.on('error', () => {})
      handler(far, { peerId: 'a' } as PeerConnection)
      await writeFrame(near, { peer }, never)
      return await readFrame(near, spliceFrameLimitBytes, never).catch(() => undefined)
    },
  }
}

/** Lets everything happen that needs no time. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
}

test('who asks for a peer gets a token when the peer takes the other one', async (t) => {
  const { ask, offered } = await startRelay(t)
  const asking = ask('b')
  await settle()
  const [offer] = offered
  assert.ok(offer)
  assert.match(JSON.stringify(await readFrame(offer, spliceFrameLimitBytes, never)), /"from":"a","token":/)
  await writeFrame(offer, { ok: true }, never)
  assert.deepEqual(Object.keys(Object(await asking)), ['token'])
})

test('a peer that is not there, or refuses, is said to be so', async (t) => {
  const { ask, offered, splices } = await startRelay(t)
  assert.deepEqual(await ask('c'), { error: 'the peer is not connected to this relay' })
  const asking = ask('b')
  await settle()
  await writeFrame(offered[0] as ByteStream, { error: 'busy' }, never)
  assert.equal(splices.count, 1)
  assert.deepEqual(await asking, { error: 'busy' })
  assert.equal(splices.count, 0, 'it takes no room of either node any more')
})

test('a peer that does not answer in time keeps no stream', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { ask, opened, splices } = await startRelay(t)
  const asking = ask('b')
  await settle()
  assert.deepEqual(
    opened.map(({ destroyed }) => destroyed),
    [false],
  )
  t.mock.timers.tick(5000)
  await asking
  assert.deepEqual(
    opened.map(({ destroyed }) => destroyed),
    [true],
  )
  assert.equal(splices.count, 0)
})
