import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import type { Host, ProtocolHandler } from '../host/host.ts'
import type { RecordBook } from '../records/record-book.ts'
import { createSpliceBook } from '../relay/serve-relay.ts'
import { OwnRelay } from './own-relay.ts'

/** A relay of its own on a host that remembers what is served there, and refuses as often as it is told. */
function createRelay(refusals = 0) {
  const served = new Set<string>()
  const switched: boolean[] = []
  let left = refusals
  const host: Pick<Host, 'peerId' | 'handle' | 'unhandle' | 'handleRaw' | 'setRelaying'> = {
    peerId: 'a',
    async handle({ protocol }: ProtocolHandler) {
      if (left-- > 0) throw new Error(`${protocol} is served already`)
      served.add(protocol)
    },
    unhandle: async (protocol) => void served.delete(protocol),
    handleRaw: (magic) => {
      served.add(magic)
      return { [Symbol.dispose]: () => void served.delete(magic) }
    },
    setRelaying: (isOn) => void switched.push(isOn),
  }
  const listeners = new Set<unknown>()
  const book: Pick<RecordBook, 'onAccepted' | 'nameOf'> = {
    nameOf: () => undefined,
    onAccepted(listener) {
      listeners.add(listener)
      return { [Symbol.dispose]: () => void listeners.delete(listener) }
    },
  }
  const relay = new OwnRelay({
    host: host as Host,
    book: book as RecordBook,
    splices: createSpliceBook({ relay: { connectionsPerNode: 1, bytesPerNodeAndDay: 0 } }),
    mayRelay: () => true,
    logger: silentLogger,
    metrics: createMetrics(),
  })
  return { relay, served, switched, listeners }
}

test('a node relays from when it is named until it no longer is', async () => {
  const { relay, served, switched, listeners } = createRelay()
  assert.equal(relay.connected, undefined)
  await relay.set(true)
  await relay.set(true)
  assert.deepEqual([relay.connected, switched, served.size > 3], [0, [true], true])
  await relay.set(false)
  assert.deepEqual([relay.connected, switched, served.size, listeners.size], [undefined, [true, false], 0, 0])
})

test('what is told at once ends in the last of it', async () => {
  const { relay, switched } = createRelay()
  await Promise.all([relay.set(true), relay.set(false), relay.set(true)])
  assert.deepEqual([relay.connected, switched], [0, [true, false, true]])
  await relay[Symbol.asyncDispose]()
  assert.equal(relay.connected, undefined)
})

test('a node that could not begin to relay does not, leaves nothing behind, and can begin later', async () => {
  const { relay, served, switched, listeners } = createRelay(1)
  await assert.rejects(relay.set(true), /is served already/)
  assert.deepEqual([relay.connected, switched, served.size, listeners.size], [undefined, [], 0, 0])
  await relay.set(true)
  assert.deepEqual([relay.connected, switched], [0, [true]])
  await relay[Symbol.asyncDispose]()
})
