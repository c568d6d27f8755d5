import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Attempts } from './attempts.ts'

const hourMs = 3_600_000
const middle = () => 0.5

/** Fails as often as it may for this long, with traffic all the time; the times of the attempts. */
function attemptsDuring(attempts: Attempts, durationMs: number, everyMs = 1000): number[] {
  const times: number[] = []
  for (let now = 0; now < durationMs; now += everyMs) {
    attempts.noteWanted(now)
    if (attempts.delayMs(now) > 0) continue
    times.push(now)
    attempts.noteFailure(now)
  }
  return times
}

test('what fails is tried again after seconds at first, within a minute for some minutes, and then ever less often', () => {
  const times = attemptsDuring(new Attempts(middle), 24 * hourMs)
  const pauses = times.slice(1).map((time, at) => time - (times[at] ?? 0))
  assert.ok((pauses[0] ?? 0) <= 5000, `${pauses[0]} ms`)
  assert.ok(Math.max(...pauses.slice(0, 7)) <= 51_000, String(pauses.slice(0, 7)))
  assert.ok(Math.max(...pauses) <= 1.1 * hourMs)
  assert.ok(times.length <= 45, `${times.length} attempts a day`)
})

test('a request every few minutes makes no more attempts than traffic all the time', () => {
  const times = attemptsDuring(new Attempts(middle), 24 * hourMs, 300_000)
  assert.ok(times.length <= 40, `${times.length} attempts a day`)
})

test('traffic after ten minutes without any is worth one attempt at once, and the pauses stay long', () => {
  const attempts = new Attempts(middle)
  attemptsDuring(attempts, 4 * hourMs)
  attempts.noteWanted(4 * hourMs + 1000)
  assert.ok(attempts.delayMs(4 * hourMs + 1000) > 0)
  const now = 4 * hourMs + 700_000
  attempts.noteWanted(now)
  assert.equal(attempts.delayMs(now), 0)
  attempts.noteFailure(now)
  assert.ok(attempts.delayMs(now) > hourMs / 2)
})

test('a change makes what failed before count no more, and ends the wait', () => {
  const attempts = new Attempts(middle)
  attemptsDuring(attempts, hourMs)
  let isAwake = false
  attempts.wake = () => {
    isAwake = true
  }
  attempts.reset()
  assert.ok(isAwake)
  assert.equal(attempts.delayMs(hourMs), 0)
  attempts.noteFailure(hourMs)
  assert.ok(attempts.delayMs(hourMs) <= 4000)
})

test('a peer that asks is answered with one attempt soon, whatever failed before', () => {
  const attempts = new Attempts(middle)
  attemptsDuring(attempts, hourMs)
  const now = 2 * hourMs
  attempts.noteAsked(now)
  assert.equal(attempts.delayMs(now), 0)
  assert.ok(attempts.isWanted(now, 60_000))
  attempts.noteFailure(now)
  assert.ok(!attempts.isWanted(now, 60_000))
  attempts.noteAsked(now + 1000)
  assert.equal(attempts.delayMs(now + 1000), 3000, 'one that asks all the time is not served all the time')
})

test('every other attempt is made from a new port, the first one never', () => {
  const attempts = new Attempts(middle)
  const isNew = [0, 1, 2, 3].map((now) => {
    const { isNewPortDue } = attempts
    attempts.noteFailure(now)
    return isNewPortDue
  })
  assert.deepEqual(isNew, [false, true, false, true])
  attempts.reset()
  assert.equal(attempts.isNewPortDue, false)
})

test('after a success one more has to be wanted anew, and may be made at once', () => {
  const attempts = new Attempts(middle)
  attempts.noteWanted(0)
  attempts.noteFailure(0)
  attempts.noteWanted(5000)
  attempts.noteSuccess(5000)
  assert.ok(!attempts.isWanted(5000, 60_000))
  assert.equal(attempts.delayMs(5000), 0)
})

test('nothing is worth remembering once the pause is over and nobody wants it', () => {
  const attempts = new Attempts(middle)
  attempts.noteWanted(0)
  attempts.noteFailure(0)
  assert.ok(!attempts.isStale(3000))
  assert.ok(!attempts.isStale(300_000))
  assert.ok(attempts.isStale(700_000))
  attempts.isRunning = true
  assert.ok(!attempts.isStale(700_000))
})
