import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type MultiaddrConnection, type PeerId, StreamResetError } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { type Logger, silentLogger } from '../../observability/index.ts'
import { createHandshakeWatch, LinkEndedError } from './handshake-watch.ts'

const peer = {} as PeerId
const broken = new Error('unexpected end of stream')

function setUp(hasPreSharedKey = true) {
  const addresses: string[] = []
  const logger: Logger = { ...silentLogger, warn: ({ address = '' }) => void addresses.push(address) }
  const watch = createHandshakeWatch({ logger, hasPreSharedKey })
  let port = 40_000
  /** A connection from the host that gets as far as `isEncrypted` says, and then breaks. */
  const connect = async (host: string, isEncrypted: boolean, error = broken) => {
    port += 1
    const events = new EventTarget()
    const remoteAddr = multiaddr(`/ip4/${host}/tcp/${port}`)
    const connection = Object.assign(events, { remoteAddr }) as unknown as MultiaddrConnection
    assert.equal(await watch.denyInboundConnection?.(connection), false)
    if (isEncrypted) assert.equal(await watch.denyInboundEncryptedConnection?.(peer, connection), false)
    events.dispatchEvent(Object.assign(new Event('close'), { error }))
  }
  return { addresses, connect }
}

test('a node that dies in the middle of one handshake is not said to have another key', async () => {
  const { addresses, connect } = setUp()
  await connect('192.0.2.1', false)
  await connect('192.0.2.2', false)
  assert.deepEqual(addresses, [])
})

test('handshakes that we end ourselves are not held against a node', async () => {
  const { addresses, connect } = setUp()
  for (let attempt = 0; attempt < 5; attempt++) await connect('192.0.2.1', false, new LinkEndedError('gone'))
  assert.deepEqual(addresses, [])
})

test('handshakes through a relay that the far end gives up say nothing of its key', async () => {
  const { addresses, connect } = setUp()
  const reset = new StreamResetError('The stream has been reset')
  for (let attempt = 0; attempt < 5; attempt++) await connect('192.0.2.1', false, reset)
  assert.deepEqual(addresses, [])
})

test('a node whose handshakes break again and again is named, once a minute', async (context) => {
  let nowMs = 1_000_000
  context.mock.method(performance, 'now', () => nowMs)
  const { addresses, connect } = setUp()
  for (let attempt = 0; attempt < 5; attempt++) await connect('192.0.2.1', false)
  assert.deepEqual(addresses, ['/ip4/192.0.2.1/tcp/40002'])
  nowMs += 60_000
  await connect('192.0.2.1', false)
  assert.deepEqual(addresses.length, 2)
})

test('a handshake that succeeds in between clears a node', async () => {
  const { addresses, connect } = setUp()
  for (let attempt = 0; attempt < 4; attempt++) await connect('192.0.2.1', attempt % 2 === 1)
  await connect('192.0.2.1', false)
  assert.deepEqual(addresses, [])
})

test('without a pre-shared key nothing is said', async () => {
  const { addresses, connect } = setUp(false)
  for (let attempt = 0; attempt < 3; attempt++) await connect('192.0.2.1', false)
  assert.deepEqual(addresses, [])
})
