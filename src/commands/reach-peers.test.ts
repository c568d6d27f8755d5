import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ByteStream, createMemoryStreamPair, type DialTarget } from '../net/index.ts'
import type { Tunnel, TunnelStatus } from '../tunnel/index.ts'
import { createInwardDialer, reachPeersOf } from './reach-peers.ts'

const { signal } = new AbortController()

test('peers with a direct path are neighbours, those behind relays and punched holes are not', () => {
  const peer = (name: string, path: TunnelStatus['peers'][number]['path']) => {
    return { name, peerId: name, path, openFlows: 0, failedAttempts: 0 }
  }
  const peers = [
    peer('near', { kind: 'lan', address: '192.168.1.12:20006' }),
    peer('public', { kind: 'direct', address: '203.0.113.8:20006' }),
    peer('far', { kind: 'relayed', via: 'relay' }),
    peer('punched', { kind: 'punched', address: '203.0.113.9:20006' }),
    peer('away', { kind: 'none' }),
    peer('near by libp2p', { kind: 'lan', address: '/ip4/192.168.1.13/tcp/20006' }),
    peer('near by a socket for both families', { kind: 'lan', address: '::ffff:192.168.1.14:41000' }),
    peer('near by IPv6', { kind: 'lan', address: 'fe80::1:41000' }),
  ]
  const tunnel = { status: () => ({ peerId: '', listen: [], servers: [], peers }) } as unknown as Tunnel
  const alsoNear = ['near by libp2p', 'near by a socket for both families', 'near by IPv6']
  assert.deepEqual([...reachPeersOf(tunnel).direct()], ['near', 'public', ...alsoNear])
  assert.deepEqual([...reachPeersOf(tunnel).near()], ['near', ...alsoNear])
  assert.deepEqual(
    [...reachPeersOf(tunnel).lanAddresses()],
    [
      ['near', '192.168.1.12'],
      ['near by libp2p', '192.168.1.13'],
      ['near by a socket for both families', '192.168.1.14'],
    ],
  )
})

test('flows to the part of a node that takes keys are asked for as such', async () => {
  const dialled: DialTarget[] = []
  const dialer = {
    async dial(target: DialTarget) {
      dialled.push(target)
      return createMemoryStreamPair()[0]
    },
  }
  await reachPeersOf({ dialer } as unknown as Tunnel).openFlow('edge-b', signal)
  assert.deepEqual(dialled, [{ protocol: 'tcp', nodeName: 'edge-b', kind: 'reach', address: '0.0.0.0', port: 1 }])
})

test('flows of peers that bring keys come to the proxy, others to their target', async () => {
  const answered: ByteStream[] = []
  const [target] = createMemoryStreamPair()
  const local = { dial: async () => target }
  const dialer = createInwardDialer(local, () => ({ answerPeer: (stream) => void answered.push(stream) }))
  const place = { protocol: 'tcp', nodeName: 'edge-a', address: '10.244.1.2', port: 80 } as const
  assert.equal(await dialer.dial(place, signal), target)
  const flow = await dialer.dial({ ...place, kind: 'reach' }, signal)
  flow.write('key')
  const [theirs] = answered
  await new Promise<void>((resolve) => theirs?.once('readable', resolve))
  assert.equal(String(theirs?.read()), 'key')
})

test('while there is no proxy such flows are reset', async () => {
  const [target] = createMemoryStreamPair()
  const dialer = createInwardDialer({ dial: async () => target }, () => undefined)
  const place = { protocol: 'tcp', nodeName: 'edge-a', kind: 'reach', address: '0.0.0.0', port: 1 } as const
  const flow = await dialer.dial(place, signal)
  const failed = new Promise<Error>((resolve) => flow.once('error', resolve))
  assert.match((await failed).message, /ECONNRESET/)
})
