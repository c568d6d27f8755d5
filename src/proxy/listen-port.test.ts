import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listenPortCandidates, morePortCandidates } from './listen-port.ts'

const usual = { first: 32768, last: 60999, isReserved: () => false }

test('a configured port is the only one', () => {
  assert.deepEqual(listenPortCandidates(40001, usual), [40001])
})

test('ports that outgoing connections or NodePorts may take are not candidates', () => {
  const candidates = listenPortCandidates(0, usual)
  assert.equal(candidates[0], 24001)
  assert.ok(candidates.length > 1 && candidates.every((port) => port < 30000))
})

test('the traditional port comes first where the kernel keeps it free', () => {
  assert.equal(listenPortCandidates(0, { ...usual, isReserved: (port) => port === 40001 })[0], 40001)
  assert.equal(listenPortCandidates(0, { ...usual, last: 40000 })[0], 40001)
})

test('where the kernel gives out nearly all ports, some are tried all the same', () => {
  assert.equal(listenPortCandidates(0, { ...usual, first: 1024, last: 65535 })[0], 24001)
})

test('one port more follows a configured one, and is none that is listened on already', () => {
  const beside = morePortCandidates(25000, { used: [25000, 25001], ephemeral: usual })
  assert.equal(beside[0], 25002)
  assert.ok(!beside.includes(25001))
  const own = morePortCandidates(0, { used: [40001, 24001], ephemeral: usual })
  assert.equal(own[0], 24002)
  assert.ok(own.every((port) => port < 30_000))
})

test('one port more is one that outgoing connections leave alone, where there is any', () => {
  assert.equal(morePortCandidates(40001, { used: [40001], ephemeral: usual })[0], 24001)
  assert.equal(
    morePortCandidates(40001, { used: [40001], ephemeral: { ...usual, first: 1024, last: 65535 } })[0],
    40002,
  )
  const last = morePortCandidates(65535, { used: [65535], ephemeral: { ...usual, last: 60000 } })
  assert.equal(last[0], 24001)
})
