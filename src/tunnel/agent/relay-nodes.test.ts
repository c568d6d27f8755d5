import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isRelayNode, relaysWithoutAddress, serverEntriesOf } from './relay-nodes.ts'

const relayNodes = [
  { nodeName: 'cloud-1', advertiseAddress: ['192.0.2.1', '2001:db8::1', 'mesh.example.org'] },
  { nodeName: 'cloud-2', advertiseAddress: ['192.0.2.2'] },
  { nodeName: 'cloud-3', advertiseAddress: [] },
]
const servers = ['192.0.2.9', '192.0.2.2:20006']

test('agents that relay are servers at the port of all agents, once, and never for themselves', () => {
  const entries = ['192.0.2.1:20006', '[2001:db8::1]:20006', 'mesh.example.org:20006']
  assert.deepEqual(serverEntriesOf({ servers, relayNodes }, { nodeName: 'edge-a', listenPort: 20006 }), [
    ...servers,
    ...entries,
  ])
  assert.deepEqual(serverEntriesOf({ servers: [], relayNodes }, { nodeName: 'cloud-1', listenPort: 20010 }), [
    '192.0.2.2:20010',
  ])
})

test('a relay whose identity is known beforehand is pinned', () => {
  const own = { nodeName: 'cloud-1', listenPort: 20006, peerIds: new Map([['cloud-2', '12D3KooWRelay']]) }
  assert.deepEqual(serverEntriesOf({ servers: [], relayNodes }, own), ['192.0.2.2:20006/p2p/12D3KooWRelay'])
})

test('a node that is named relays', () => {
  const isRelay = (nodeName: string) => isRelayNode({ servers, relayNodes }, { nodeName, listenPort: 1 })
  assert.deepEqual([isRelay('cloud-3'), isRelay('edge-a')], [true, false])
})

test('relays that nobody can find are named, except to themselves', () => {
  const named = (nodeName: string) => relaysWithoutAddress({ servers, relayNodes }, { nodeName, listenPort: 1 })
  assert.deepEqual([named('edge-a'), named('cloud-3')], [['cloud-3'], []])
})
