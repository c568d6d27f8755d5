import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { LinkKind } from './hello.ts'
import type { Link } from './link.ts'
import { LinkKeeper } from './link-keeper.ts'
import type { PeerLinks } from './peer-links.ts'

/** A keeper of one link, whose clock is the test's: every tick is a second. */
function createKept(t: TestContext, kind: LinkKind = 'shared') {
  const keeper = new LinkKeeper(() => [peer as unknown as PeerLinks])
  t.after(() => keeper[Symbol.dispose]())
  const startMs = Math.ceil(performance.now())
  const state = {
    flows: 0,
    isWaiting: false,
    isReleased: false,
    probes: 0,
    signs: 0,
    isRetired: false,
    closed: '',
    abandoned: '',
  }
  let seconds = 0
  const link = {
    kind,
    get flows() {
      return state.flows
    },
    lastHeardMs: startMs,
    idleSinceMs: startMs,
    lastDataMs: 0,
    lastDatagramMs: 0,
    bytesWritten: 0,
    probedSinceMs: undefined as number | undefined,
    reassure() {
      state.signs += 1
    },
    probe() {
      state.probes += 1
      link.probedSinceMs ??= startMs + seconds * 1000
    },
    close: (error: Error) => {
      state.closed = error.message
    },
    abandon: (error: Error) => {
      state.abandoned = error.message
    },
  }
  const peer = {
    links: new Set([link as unknown as Link]),
    tick() {},
    isWaitingOn: () => state.isWaiting,
    isReleased: () => state.isReleased,
    retire() {
      state.isRetired = true
    },
  }
  const pass = (count: number) => {
    for (let tick = 0; tick < count; tick++) {
      seconds += 1
      keeper.tick(startMs + seconds * 1000)
    }
  }
  const standStill = (count: number) => {
    seconds += count
  }
  return { state, link, pass, standStill, nowMs: () => startMs + seconds * 1000 }
}

test('a shared link is let go a minute after its last flow, and not asked meanwhile', (t) => {
  const { state, pass } = createKept(t)
  state.flows = 1
  pass(4)
  state.flows = 0
  pass(60)
  assert.deepEqual([state.isRetired, state.probes], [false, 0])
  pass(1)
  assert.equal(state.isRetired, true)
})

test('who takes bytes and has nothing to say for three seconds says so, and nobody else', (t) => {
  const { state, link, pass, nowMs } = createKept(t)
  state.flows = 1
  const take = (seconds: number, each = () => {}) => {
    for (let second = 0; second < seconds; second++) {
      link.lastDataMs = nowMs()
      link.lastHeardMs = nowMs()
      each()
      pass(1)
    }
  }
  take(3)
  assert.equal(state.signs, 0)
  take(1)
  assert.equal(state.signs, 1)
  take(10, () => {
    link.bytesWritten += 100
  })
  assert.equal(state.signs, 1, 'what is written is a sign of life')
  link.lastHeardMs = nowMs() + 20_000
  pass(20)
  assert.equal(state.signs, 1, 'signs of life are not answered')
})

test('a bulk link is let go after ten seconds', (t) => {
  const { state, pass } = createKept(t, 'bulk')
  pass(10)
  assert.equal(state.isRetired, false)
  pass(1)
  assert.equal(state.isRetired, true)
})

test('a link that the far end does not use any more is closed once nothing is left on it', (t) => {
  const { state, pass } = createKept(t)
  state.isReleased = true
  state.flows = 1
  pass(1)
  assert.equal(state.closed, '')
  state.flows = 0
  pass(1)
  assert.equal(state.closed, 'idle')
})

test('a silent link with flows is asked after 5 s and given up after 12', (t) => {
  const { state, pass } = createKept(t)
  state.flows = 1
  pass(4)
  assert.equal(state.probes, 0)
  pass(7)
  assert.deepEqual([state.probes > 0, state.closed], [true, ''])
  pass(1)
  assert.equal(state.abandoned, 'nothing was heard for 12 s')
})

test('while somebody waits for an answer, it is asked after 1 s and given up after 4', (t) => {
  const { state, pass } = createKept(t)
  state.flows = 1
  state.isWaiting = true
  pass(3)
  assert.deepEqual([state.probes > 0, state.closed], [true, ''])
  pass(1)
  assert.equal(state.abandoned, 'nothing was heard for 4 s')
})

for (const [what, isWaiting, limit] of [
  ['somebody waits for an answer', true, 3],
  ['a flow is open', false, 7],
] as const) {
  test(`a link that nobody used for long is asked once ${what}, and has ${limit} s to answer`, (t) => {
    const { state, link, pass, nowMs } = createKept(t)
    pass(30)
    Object.assign(state, { flows: 1, isWaiting })
    pass(limit)
    assert.deepEqual([state.probes > 0, state.abandoned], [true, ''])
    link.lastHeardMs = nowMs()
    link.probedSinceMs = undefined
    pass(limit + (isWaiting ? 0 : 4))
    assert.equal(state.abandoned, '')
    pass(1)
    assert.notEqual(state.abandoned, '')
  })
}

test('a link with datagrams on it is kept, asked a second after one that nothing came after, and given up after 12', (t) => {
  const { state, link, pass, nowMs } = createKept(t, 'datagram')
  const exchange = () => {
    link.lastDatagramMs = nowMs()
    link.lastHeardMs = nowMs()
    pass(1)
  }
  for (let second = 0; second < 100; second++) exchange()
  assert.deepEqual([state.isRetired, state.probes], [false, 0])
  for (let second = 1; second < 11; second++) {
    link.lastDatagramMs = nowMs() + 1
    pass(1)
    assert.equal(state.probes, second)
  }
  assert.equal(state.abandoned, '')
  pass(1)
  assert.equal(state.abandoned, 'nothing was heard for 12 s')
})

test('whatever comes is a sign of life', (t) => {
  const { state, link, pass, nowMs } = createKept(t)
  state.flows = 1
  for (let round = 0; round < 10; round++) {
    pass(4)
    link.lastHeardMs = nowMs()
  }
  assert.deepEqual([state.probes, state.closed], [0, ''])
})

test('a process that stood still gives the far end time to be heard', (t) => {
  const { state, pass, standStill } = createKept(t)
  state.flows = 1
  pass(1)
  standStill(60)
  pass(5)
  assert.deepEqual([state.probes, state.closed], [0, ''])
  pass(8)
  assert.equal(state.abandoned, 'nothing was heard for 12 s')
})
