import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import { parseServerAddress } from '../host/server-address.ts'
import { RelayChoice, type RelayLink } from './relay-choice.ts'
import { RelayedConnections } from './relayed-connections.ts'

const peer = { name: 'edge-b', peerId: 'peer' }

function relay(name: string, roundTripMs: number): RelayLink {
  const address = parseServerAddress(name)
  return {
    address,
    peerId: name,
    isUp: true,
    isDoubted: false,
    roundTripMs,
    reaches: (node) => node === 'edge-b',
    refusalOf: () => undefined,
    status: () => ({ address: address.text, connected: true, reserved: true }),
  }
}

/** Connections through the relays `near` and `far`; which of them answer is the test's. */
function setUp(answering: readonly string[], standing: readonly PeerConnection[] = []) {
  const dialled: string[] = []
  const connections = new RelayedConnections({
    host: {
      connectionsTo: () => standing,
      dial: async (address) => {
        const relayPeerId = /\/p2p\/(\w+)\/p2p-circuit\/p2p\/peer$/.exec(address)?.[1] ?? ''
        dialled.push(relayPeerId)
        if (!answering.includes(relayPeerId)) throw new Error(`${relayPeerId} refuses`)
        return { peerId: 'peer', relayPeerId } as PeerConnection
      },
    },
    relays: new RelayChoice([relay('far', 80), relay('near', 20)]),
    logger: silentLogger,
  })
  const failures: string[] = []
  return { connections, dialled, failures, onFailure: (error: unknown) => void failures.push(String(error)) }
}

test('all who need a connection to a peer share one attempt through the nearest relay', async () => {
  const { connections, dialled, onFailure } = setUp(['near', 'far'])
  const made = await Promise.all([connections.make(peer, onFailure), connections.make(peer, onFailure)])
  assert.deepEqual([made.map((each) => each?.relayPeerId), dialled], [['near', 'near'], ['near']])
  await connections.make(peer, onFailure)
  assert.equal(dialled.length, 2, 'a later one begins anew')
})

test('when a relay fails the next one is taken, and when all fail there is none', async () => {
  const some = setUp(['far'])
  assert.equal((await some.connections.make(peer, some.onFailure))?.relayPeerId, 'far')
  assert.deepEqual(some.failures, ['Error: near refuses'])
  const none = setUp([])
  assert.equal(await none.connections.make(peer, none.onFailure), undefined)
  assert.equal(none.failures.length, 2)
})

test('a node that no relay knows is dialled through none', async () => {
  const { connections, dialled, onFailure } = setUp(['near', 'far'])
  assert.equal(await connections.make({ name: 'edge-c', peerId: 'peer' }, onFailure), undefined)
  assert.deepEqual(dialled, [])
})

test('another connection than one through a silent relay is one that stands, else a new one', async () => {
  const standing = { peerId: 'peer', relayPeerId: 'far' } as PeerConnection
  const known = setUp(['near', 'far'], [standing])
  assert.equal(await known.connections.another(peer, 'near'), standing)
  assert.deepEqual(known.dialled, [])
  const fresh = setUp(['near', 'far'])
  assert.equal((await fresh.connections.another(peer, 'near'))?.relayPeerId, 'far')
  assert.deepEqual(fresh.dialled, ['far'])
})
