import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { Deadline } from './deadline.ts'

function withClock(check: (advance: (durationMs: number) => void, make: (onPassed: () => void) => Deadline) => void) {
  mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  const made: Deadline[] = []
  try {
    check(
      (durationMs) => mock.timers.tick(durationMs),
      (onPassed) => {
        const deadline = new Deadline(onPassed, Date.now)
        made.push(deadline)
        return deadline
      },
    )
  } finally {
    for (const deadline of made) deadline.stop()
    mock.timers.reset()
  }
}

test('a deadline passes once, when it was not set again', () => {
  withClock((advance, make) => {
    let passed = 0
    const deadline = make(() => {
      passed += 1
    })
    deadline.set(100)
    advance(90)
    deadline.set(100)
    advance(90)
    assert.equal(passed, 0)
    advance(10)
    assert.equal(passed, 1)
    advance(1000)
    assert.equal(passed, 1)
  })
})

test('an earlier deadline takes the place of a later one', () => {
  withClock((advance, make) => {
    let passed = 0
    const deadline = make(() => {
      passed += 1
    })
    deadline.set(1000)
    deadline.set(10)
    advance(10)
    assert.equal(passed, 1)
  })
})

test('a deadline that was cleared or stopped does not pass, and may be set again', () => {
  withClock((advance, make) => {
    let passed = 0
    const deadline = make(() => {
      passed += 1
    })
    deadline.set(10)
    deadline.clear()
    advance(20)
    deadline.set(10)
    deadline.stop()
    advance(20)
    assert.equal(passed, 0)
    deadline.set(10)
    advance(10)
    assert.equal(passed, 1)
  })
})
