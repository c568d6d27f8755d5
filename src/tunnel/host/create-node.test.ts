import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection, PeerId } from '@libp2p/interface'
import { listQuickly } from './create-node.ts'

test('all connections are listed without the library, those to a peer as it does', () => {
  const peers = new Map([
    ['a', ['a1', 'a2']],
    ['b', ['b1']],
  ]) as unknown as Map<PeerId, Connection[]>
  let asked = 0
  const manager = {
    getConnections(peer?: PeerId): Connection[] {
      asked += 1
      assert.ok(peer, 'the list of all is not asked for')
      return peers.get(peer) ?? []
    },
    getConnectionsMap: () => peers,
  }
  listQuickly(manager)
  assert.deepEqual(manager.getConnections(), ['a1', 'a2', 'b1'])
  assert.equal(asked, 0)
  assert.deepEqual(manager.getConnections('b' as unknown as PeerId), ['b1'])
})
