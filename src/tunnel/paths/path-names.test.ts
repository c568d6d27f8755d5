import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerConnection } from '../host/peer-connection.ts'
import { directNameOf, PathNames, relayNameOf } from './path-names.ts'

const relays = {
  nameOf: (peerId: string | undefined) => (peerId === 'id-one' ? 'one:20004' : (peerId ?? 'unknown')),
  named: (name: string) => (name === 'one:20004' ? 'id-one' : undefined),
}
const lan = { address: '198.51.100.7', prefixLength: 24 }

test('a neighbour in a subnet of this node is in its LAN, any other one is not', () => {
  const names = new PathNames(() => [lan, { address: '10.0.0.1', prefixLength: 32 }], relays)
  const hosts = ['198.51.100.200', '192.0.2.9', '10.0.0.1', '2001:db8::1', '']
  assert.deepEqual(
    hosts.map((host) => names.ofAddress(host)),
    ['lan', 'direct', 'direct', 'direct', 'direct'],
  )
})

test('a connection keeps its name when the addresses of this node change', () => {
  let addresses = [lan]
  const names = new PathNames(() => addresses, relays)
  const connection = { address: '/ip4/198.51.100.9/tcp/20006/p2p/x' } as PeerConnection
  assert.equal(names.ofConnection(connection), 'lan')
  addresses = []
  assert.equal(names.ofConnection(connection), 'lan')
  assert.equal(names.ofConnection({ ...connection }), 'direct')
})

test('what is relayed is called by the relay, and the relay of a link is found by that', () => {
  const names = new PathNames(() => [lan], relays)
  const relayed = {
    relayPeerId: 'id-one',
    address: '/dns/one/tcp/20004/p2p/id-one/p2p-circuit/p2p/x',
  } as PeerConnection
  assert.equal(names.ofConnection(relayed), 'relayed via one:20004')
  assert.equal(relayNameOf({ path: names.ofConnection(relayed) }), 'one:20004')
  assert.equal(names.relayOf({ path: names.ofRelay('id-one') }), 'id-one')
  assert.deepEqual(
    [names.relayOf({ path: 'relayed via two:20004' }), names.relayOf({ path: 'lan' })],
    [undefined, undefined],
  )
})

test('links are called by the way on which they were made', () => {
  const paths = ['lan', 'direct', 'punched'].map((path) => directNameOf({ path }))
  assert.deepEqual(paths, ['lan', 'direct', 'punched'])
})
