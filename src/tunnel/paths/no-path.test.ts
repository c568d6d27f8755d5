import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SignedRecord } from '../records/name-record.ts'
import { type NoPathFacts, noPathTo } from './no-path.ts'
import type { RelayLink } from './relay-choice.ts'

const server = (isUp: boolean) =>
  ({ address: { text: 'relay:20004' }, isUp, status: () => ({ lastError: 'no answer' }) }) as unknown as RelayLink

const facts: NoPathFacts = {
  book: { isRevokedName: () => false, recordOf: () => ({}) as SignedRecord },
  links: [server(true)],
  policy: { allows: () => true },
  relays: { whyNot: () => 'it is not connected to any of our servers' },
  lastError: undefined,
}

const textOf = (change: Partial<NoPathFacts>) => noPathTo('edge-b', { ...facts, ...change }).message

test('a node that nobody has told of is said to have joined no mesh, with what keeps us from being told', () => {
  const book = { ...facts.book, recordOf: () => undefined }
  assert.equal(textOf({ book }), 'Cannot reach edge-b: no node of this name has joined the mesh')
  assert.equal(
    textOf({ book, links: [server(false)] }),
    'Cannot reach edge-b: no node of this name has joined the mesh; no server is connected: relay:20004 (no answer)',
  )
  assert.match(textOf({ book, strangers: {} }), /not connected to any/, 'it may be a node of the Go system')
})

test('the reason of the relays is told, and the last failure', () => {
  assert.equal(
    textOf({ lastError: 'the peer left' }),
    'Cannot reach edge-b: it is not connected to any of our servers; last attempt: the peer left',
  )
})

test('where relays carry nothing, or none is connected, that is the reason', () => {
  assert.equal(
    textOf({ policy: { allows: () => false } }),
    'Cannot reach edge-b: there is no direct path, and paths.directOnly forbids others',
  )
  assert.equal(textOf({ links: [] }), 'Cannot reach edge-b: it is no neighbour that answers; no server is configured')
})

test('a revoked node is forbidden, whatever else is true of it', () => {
  const error = noPathTo('edge-b', { ...facts, book: { ...facts.book, isRevokedName: () => true } })
  assert.deepEqual([error.failure, error.message], ['forbidden', 'Cannot reach edge-b: it is revoked here'])
})
