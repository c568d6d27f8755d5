import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Candidate, createCandidate, isAvoided, noteFailure, noteSuccess, noteTurn } from './candidate.ts'

const detection = { consecutiveErrors: 3, baseEjectionMs: 10_000, maxEjectionPercent: 50 }

function candidates(count: number): [Candidate, Candidate, Candidate, ...Candidate[]] {
  const made = Array.from({ length: count }, (_, index) => {
    return createCandidate(String(index), { address: `10.0.0.${index}`, port: 80 }, 0)
  })
  return made as [Candidate, Candidate, Candidate, ...Candidate[]]
}

function fail(candidate: Candidate, all: readonly Candidate[], times: number, nowMs: number, rule = detection): void {
  for (let count = 0; count < times; count++) noteFailure(candidate, all, rule, nowMs)
}

test('so many failures in a row as the rule says eject a backend, and a success between them does not', () => {
  const all = candidates(4)
  fail(all[0], all, 2, 0)
  assert.equal(isAvoided(all[0], 0), false)
  noteSuccess(all[0])
  fail(all[0], all, 2, 0)
  assert.equal(isAvoided(all[0], 0), false)
  fail(all[0], all, 1, 0)
  assert.equal(isAvoided(all[0], 9_999), true)
  assert.equal(isAvoided(all[0], 10_000), false)
})

test('each ejection in a row lasts longer, up to six times, and a success begins anew', () => {
  const all = candidates(4)
  const durations: number[] = []
  let nowMs = 0
  for (let round = 0; round < 8; round++) {
    // Once it was ejected, one failure is enough.
    fail(all[0], all, round === 0 ? 3 : 1, nowMs)
    durations.push((all[0].ejectedUntilMs ?? 0) - nowMs)
    nowMs = all[0].ejectedUntilMs ?? 0
  }
  assert.deepEqual(durations, [10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 60_000, 60_000])
  noteSuccess(all[0])
  fail(all[0], all, 3, nowMs)
  assert.equal((all[0].ejectedUntilMs ?? 0) - nowMs, 10_000)
})

test('never more are ejected than the share allows, but one always may be', () => {
  const all = candidates(4)
  for (const candidate of all) fail(candidate, all, 3, 0)
  assert.deepEqual(
    all.map((candidate) => isAvoided(candidate, 0)),
    [true, true, false, false],
  )
  const few = candidates(3)
  for (const candidate of few) fail(candidate, few, 3, 0, { ...detection, maxEjectionPercent: 10 })
  assert.deepEqual(
    few.map((candidate) => isAvoided(candidate, 0)),
    [true, false, false],
  )
})

test('a backend whose ejection is over makes room for another one', () => {
  const all = candidates(3)
  fail(all[0], all, 3, 0)
  fail(all[1], all, 3, 10_000)
  assert.deepEqual(
    all.map((candidate) => isAvoided(candidate, 10_000)),
    [false, true, false],
  )
})

test('a rule may switch ejection off', () => {
  const all = candidates(3)
  fail(all[0], all, 100, 0, { ...detection, consecutiveErrors: 0 })
  fail(all[1], all, 100, 0, { ...detection, maxEjectionPercent: 0 })
  assert.deepEqual(
    all.map((candidate) => isAvoided(candidate, 0)),
    [false, false, false],
  )
})

test('the connection that tries a backend after its ejection keeps the others away meanwhile', () => {
  const all = candidates(3)
  fail(all[0], all, 3, 0)
  assert.equal(isAvoided(all[0], 10_000), false)
  noteTurn(all[0], 1, detection, 10_000)
  assert.equal(isAvoided(all[0], 10_001), true)
})
