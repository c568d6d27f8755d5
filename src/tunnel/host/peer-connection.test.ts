import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Connection } from '@libp2p/interface'
import { peerConnectionOf } from './peer-connection.ts'

/** A connection of the library whose peer never answers. */
function createSilentConnection() {
  const connection = Object.assign(new EventTarget(), {
    id: '1',
    status: 'open',
    direction: 'outbound',
    remoteAddr: { toString: () => '/ip4/192.0.2.1/tcp/1/p2p/relay/p2p-circuit' },
    remotePeer: { toString: () => 'peer' },
    maConn: new EventTarget(),
    muxer: { ping: () => new Promise<number>(() => {}) },
  })
  return { connection, peer: peerConnectionOf(connection as unknown as Connection) }
}

test('who waits for an answer on a connection that closes is let go at once', async () => {
  const { connection, peer } = createSilentConnection()
  const never = new AbortController().signal
  const waiting = [peer.probe(never), peer.measure(never)]
  connection.status = 'closed'
  connection.dispatchEvent(new Event('close'))
  for (const answer of waiting) await assert.rejects(answer, /the connection was closed/)
  await assert.rejects(peer.probe(never), /the connection was closed/)
})

test('an answer that comes after the patience of who asked does no harm: the muxer is not told to forget the question', async () => {
  const { connection, peer } = createSilentConnection()
  const asked: unknown[] = []
  const { promise, resolve } = Promise.withResolvers<number>()
  connection.muxer.ping = (...args: unknown[]) => {
    asked.push(...args)
    return promise
  }
  const stop = new AbortController()
  const waiting = [peer.probe(stop.signal), peer.measure(stop.signal)]
  stop.abort(new Error('that was too long'))
  for (const answer of waiting) await assert.rejects(answer, /too long/)
  resolve(5000)
  await peer.probe(new AbortController().signal)
  assert.deepEqual(asked, [])
})

test('what comes over links that the peer joins is noted, the latest', () => {
  const { peer } = createSilentConnection()
  assert.equal(peer.joinedHeardMs, 0)
  peer.noteJoinedHeard(20)
  peer.noteJoinedHeard(10)
  assert.equal(peer.joinedHeardMs, 20)
})

test('a connection is doubted until something comes from the peer, or over what it joins', () => {
  const { connection, peer } = createSilentConnection()
  assert.equal(peer.isDoubted, false)
  peer.noteDoubted()
  assert.equal(peer.isDoubted, true)
  connection.maConn.dispatchEvent(new Event('message'))
  assert.equal(peer.isDoubted, false)
  peer.noteDoubted()
  peer.noteJoinedHeard(performance.now() + 1)
  assert.equal(peer.isDoubted, false)
})

test('a connection says through whom it runs, and since when it waits for an answer', () => {
  const { connection, peer } = createSilentConnection()
  assert.equal(peer.relayPeerId, 'relay')
  const heardMs = peer.lastHeardMs
  peer.noteAsked(heardMs + 10)
  peer.noteAsked(heardMs + 20)
  assert.equal(peer.askedSinceMs, heardMs + 10, 'the first one counts')
  connection.maConn.dispatchEvent(new Event('message'))
  assert.ok(peer.lastHeardMs >= heardMs)
})

test('a connection that this node ends says why, with the first reason', () => {
  const { connection, peer } = createSilentConnection()
  const reasons: Error[] = []
  Object.assign(connection, { abort: (reason: Error) => reasons.push(reason) })
  assert.equal(peer.endedFor, undefined)
  const silence = new Error('nothing was heard for 5 s')
  peer.abort(silence)
  peer.abort(new Error('the link to the server ends'))
  assert.equal(peer.endedFor, silence)
  assert.equal(reasons[0], silence)
})
