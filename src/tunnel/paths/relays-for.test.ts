import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { RelayLink } from './relay-choice.ts'
import { type RelayedPeer, relaysFor } from './relays-for.ts'

interface Setting {
  /** Relays that know the node by name, nearest first. */
  readonly reaching?: readonly string[]
  readonly silent?: readonly string[]
  /** Relays that are not connected, or that have connected to us. */
  readonly away?: readonly string[]
  readonly inbound?: readonly string[]
}

function relaysOf(peer: RelayedPeer, { reaching = [], silent = [], away = [], inbound = [] }: Setting): string[] {
  const connectionsTo = (peerId: string) =>
    away.includes(peerId)
      ? []
      : [
          { peerId, relayPeerId: 'another', isOutbound: true },
          { peerId, isOutbound: !inbound.includes(peerId) },
        ]
  const found = relaysFor(peer, {
    host: { connectionsTo: (peerId) => connectionsTo(peerId) as PeerConnection[] },
    relays: {
      reaching: () => reaching.map((peerId) => ({ peerId }) as RelayLink),
      isSilent: (relay = '') => silent.includes(relay),
      patienceMs: () => 300,
    },
  })
  for (const { connection } of found)
    assert.deepEqual([connection.relayPeerId, connection.isOutbound], [undefined, true])
  return found.map(({ connection }) => connection.peerId)
}

test('relays that know the node come nearest first', () => {
  assert.deepEqual(relaysOf({ name: 'edge-b', standing: [] }, { reaching: ['near', 'far'] }), ['near', 'far'])
})

test('the relay of what stands already comes first, and once', () => {
  const peer = { name: 'edge-b', standing: ['far', undefined, 'far'] }
  assert.deepEqual(relaysOf(peer, { reaching: ['near', 'far'] }), ['far', 'near'])
})

test('silent relays come last, also that of what stands', () => {
  const peer = { name: 'edge-b', standing: ['far'] }
  assert.deepEqual(relaysOf(peer, { reaching: ['near', 'next'], silent: ['far', 'near'] }), ['next', 'far', 'near'])
})

test('a peer without a name is reached through the relay of what stands to it', () => {
  assert.deepEqual(relaysOf({ name: undefined, standing: ['far'] }, { reaching: ['near'] }), ['far'])
})

test('a relay that is not connected, or that we have not dialled, is of no use', () => {
  const setting = { reaching: ['gone', 'theirs', 'near'], away: ['gone'], inbound: ['theirs'] }
  assert.deepEqual(relaysOf({ name: 'edge-b', standing: [] }, setting), ['near'])
})
