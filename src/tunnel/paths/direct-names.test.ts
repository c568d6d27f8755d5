import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import { DirectNames, directNameOf } from './direct-names.ts'

const lan = { address: '198.51.100.7', prefixLength: 24 }

test('a neighbour in a subnet of this node is in its LAN, any other one is not', () => {
  const names = new DirectNames(() => [lan, { address: '10.0.0.1', prefixLength: 32 }])
  const hosts = ['198.51.100.200', '192.0.2.9', '10.0.0.1', '2001:db8::1', '']
  assert.deepEqual(
    hosts.map((host) => names.ofAddress(host)),
    ['lan', 'direct', 'direct', 'direct', 'direct'],
  )
})

test('a connection keeps its name when the addresses of this node change', () => {
  let addresses = [lan]
  const names = new DirectNames(() => addresses)
  const connection = { address: '/ip4/198.51.100.9/tcp/20006/p2p/x' } as PeerConnection
  assert.equal(names.ofConnection(connection), 'lan')
  addresses = []
  assert.equal(names.ofConnection(connection), 'lan')
  assert.equal(names.ofConnection({ ...connection }), 'direct')
})

test('links are called by the way on which they were made', () => {
  const paths = ['lan', 'direct', 'punched'].map((path) => directNameOf({ path } as Link))
  assert.deepEqual(paths, ['lan', 'direct', 'punched'])
})
