import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { type Carrier, flowProtocol } from '../flows/carrier.ts'
import type { OpenMessages } from '../flows/open-message.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { StreamCarriers } from './stream-carriers.ts'

const request = { protocol: 'tcp', nodeName: 'edge-b', address: '10.1.1.1', port: 80 } as const
const never = new AbortController().signal

/** Carriers to a peer that speaks one protocol; its agreement to a target is played. */
function setUp(spoken: string) {
  const counted: string[] = []
  const met: string[] = []
  const offered: (string | string[])[] = []
  const messages: Pick<OpenMessages, 'request'> = { request: async () => {} }
  const connection = {
    peerId: 'peer',
    async openStream(protocols: string | string[]) {
      offered.push(protocols)
      const [ours, theirs] = createMemoryStreamPair()
      theirs.on('error', () => {})
      return Object.assign(ours, { protocol: spoken })
    },
  } as unknown as PeerConnection
  const carriers = new StreamCarriers({
    strangers: {
      identityOf: async () => 'peer',
      protocol: '/theirs',
      messages: messages as OpenMessages,
      noteSpoken: (peerId) => void met.push(peerId),
    },
    logger: silentLogger,
    names: { ofConnection: () => 'relayed via relay' },
    onStream: (to) => void counted.push(to),
  })
  return { carriers, connection, counted, met, offered }
}

test('a peer of the Go system is offered both protocols, asked in its own words, and counted as such', async () => {
  const { carriers, connection, counted, met, offered } = setUp('/theirs')
  const carrier = carriers.of(connection)
  assert.deepEqual([carrier.peerId, carrier.path], ['peer', 'relayed via relay'])
  const stream = await carrier.open(request, never)
  stream.destroy()
  assert.deepEqual([offered, counted, met], [[[flowProtocol, '/theirs']], ['go'], ['peer']])
})

test('one of ours is asked in our words', async () => {
  const { carriers, connection, counted, met } = setUp(flowProtocol)
  const gone = new AbortController()
  const opening = carriers.of(connection).open(request, gone.signal)
  setImmediate(() => gone.abort(new Error('nobody answers here')))
  await assert.rejects(opening)
  assert.deepEqual([counted, met], [['edgemesh'], []])
})

test('it is known on what a carrier opens streams, also under another name', () => {
  const { carriers, connection } = setUp('/theirs')
  const carrier = carriers.of(connection)
  const other: Carrier = { ...carrier }
  assert.equal(carriers.connectionOf(other), undefined)
  carriers.isAlso(other, carrier)
  assert.deepEqual([carriers.connectionOf(carrier), carriers.connectionOf(other)], [connection, connection])
  carriers.isAlso(carrier, { ...other })
  assert.equal(carriers.connectionOf(carrier), connection)
})
