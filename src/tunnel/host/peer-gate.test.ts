import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { MultiaddrConnection, PeerId } from '@libp2p/interface'
import { multiaddr } from '@multiformats/multiaddr'
import { type Logger, silentLogger } from '../../observability/index.ts'
import { createPeerGate } from './peer-gate.ts'

const peer = (id: string) => ({ toString: () => id }) as PeerId
const connection = { remoteAddr: multiaddr('/ip4/192.0.2.1/tcp/1') } as MultiaddrConnection

function setUp(relaying = { isOn: true }) {
  const told: string[] = []
  const logger: Logger = { ...silentLogger, error: ({ peer: id = '' }) => void told.push(id) }
  let handshakes = 0
  const watch = {
    denyInboundEncryptedConnection() {
      handshakes += 1
      return false
    },
  }
  const gate = createPeerGate(watch, relaying, {
    isShutOut: (id) => id === 'revoked',
    mayRelay: (id) => id.startsWith('named'),
    logger,
  })
  return { gate, told, handshakes: () => handshakes }
}

test('a peer that is shut out is refused both ways, and told of once a minute', async (context) => {
  let nowMs = 1_000_000
  context.mock.method(performance, 'now', () => nowMs)
  const { gate, told, handshakes } = setUp()
  assert.equal(await gate.denyInboundEncryptedConnection?.(peer('revoked'), connection), true)
  assert.equal(await gate.denyOutboundEncryptedConnection?.(peer('revoked'), connection), true)
  assert.deepEqual(told, ['revoked'])
  nowMs += 60_000
  await gate.denyInboundEncryptedConnection?.(peer('revoked'), connection)
  assert.equal(told.length, 2)
  assert.equal(handshakes(), 2, 'the watch learns that the handshake held')
})

test('other peers are let in', async () => {
  const { gate, told } = setUp()
  assert.equal(await gate.denyInboundEncryptedConnection?.(peer('a'), connection), false)
  assert.equal(await gate.denyOutboundEncryptedConnection?.(peer('a'), connection), false)
  assert.deepEqual(told, [])
})

test('connections are relayed between peers that may, while this node relays', () => {
  const relaying = { isOn: true }
  const { gate } = setUp(relaying)
  const denied = (source: string, target: string) => gate.denyOutboundRelayedConnection?.(peer(source), peer(target))
  assert.equal(denied('named-1', 'named-2'), false)
  assert.equal(denied('stranger', 'named-2'), true)
  assert.equal(denied('named-1', 'stranger'), true)
  assert.equal(gate.denyInboundRelayReservation?.(peer('a')), false)
  relaying.isOn = false
  assert.equal(denied('named-1', 'named-2'), true)
  assert.equal(gate.denyInboundRelayReservation?.(peer('a')), true)
})
