import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Starvation } from './starvation.ts'

/** A receiver that has told more credit to a sender which may send 1,000 bytes meanwhile. */
function setUp() {
  const clock = { ms: 100 }
  const starvation = new Starvation(() => clock.ms)
  starvation.granted(1_000)
  const receive = (offset: number, afterMs: number) => {
    clock.ms += afterMs
    starvation.arriving()
    starvation.arrived(offset)
  }
  return { starvation, receive }
}

test('a sender that stops where its credit ended, and goes on later, has waited', () => {
  const { starvation, receive } = setUp()
  receive(1_000, 0)
  assert.equal(starvation.take(), false)
  receive(1_500, 50)
  assert.equal(starvation.take(), true)
})

test('it is told once', () => {
  const { starvation, receive } = setUp()
  receive(1_000, 0)
  receive(1_500, 50)
  starvation.take()
  receive(1_600, 50)
  assert.equal(starvation.take(), false)
})

test('a sender that pauses elsewhere had nothing to send', () => {
  const { starvation, receive } = setUp()
  receive(999, 0)
  receive(1_500, 50)
  assert.equal(starvation.take(), false)
})

test('a sender that goes on at once got its credit in time', () => {
  const { starvation, receive } = setUp()
  receive(1_000, 0)
  receive(1_500, 0.2)
  assert.equal(starvation.take(), false)
})
