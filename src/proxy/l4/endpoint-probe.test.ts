import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Backend } from '../../model/index.ts'
import { type ByteStream, createMemoryStreamPair, DialError, type Dialer, type DialFailure } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { createEndpointProbe, createSuspectingDialer } from './endpoint-probe.ts'

const pod: Backend = { nodeName: 'here', address: '10.244.1.2', port: 80 }
const id = 'here/10.244.1.2:80'

/** A probe of endpoints that accept, or fail as told; time passes when the test says so. */
function createFixture(resources: AsyncDisposableStack) {
  const state: { failure: DialFailure | undefined } = { failure: undefined }
  const streams: ByteStream[] = []
  const sleepers = new Map<() => void, number>()
  let nowMs = 0
  let changes = 0
  let dials = 0
  const dialer: Dialer = {
    async dial() {
      dials += 1
      if (state.failure !== undefined) throw new DialError(state.failure, `as told: ${state.failure}`)
      const [near, far] = createMemoryStreamPair()
      far.on('error', () => {})
      streams.push(near)
      return near
    },
  }
  const sleep = (durationMs: number, signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      const wake = () => void (sleepers.delete(wake) && resolve())
      sleepers.set(wake, nowMs + durationMs)
      signal.addEventListener('abort', () => void (sleepers.delete(wake) && reject(signal.reason)), { once: true })
    })
  const onChange = () => {
    changes += 1
  }
  const probe = resources.use(createEndpointProbe({ dialer, logger: silentLogger, onChange, sleep }))
  /** Lets time pass in steps, with what depends on it settled in between. */
  const pass = async (durationMs: number) => {
    for (let passed = 0; passed <= durationMs; passed += 50) {
      for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
      if (passed < durationMs) nowMs += 50
      for (const [wake, dueMs] of sleepers) if (dueMs <= nowMs) wake()
    }
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate)
  }
  return { probe, state, streams, pass, changes: () => changes, dials: () => dials }
}

test('nobody is connected to without suspicion, and one that accepts is left alone after it', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, pass, dials, streams, changes } = createFixture(resources)
  await pass(10_000)
  assert.equal(dials(), 0)
  probe.suspect(pod)
  await pass(10_000)
  assert.deepEqual([dials(), changes(), probe.withdrawn.size], [1, 0, 0])
  assert.equal(streams[0]?.destroyed, true)
})

test('an endpoint that refuses twice is withdrawn within a second', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass, changes } = createFixture(resources)
  state.failure = 'refused'
  probe.suspect(pod)
  await pass(50)
  assert.equal(probe.withdrawn.size, 0)
  await pass(100)
  assert.deepEqual([...probe.withdrawn], [id])
  assert.equal(changes(), 1)
})

test('one that refuses once, as while it restarts, stays', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass, changes } = createFixture(resources)
  state.failure = 'refused'
  probe.suspect(pod)
  await pass(50)
  state.failure = undefined
  await pass(5_000)
  assert.deepEqual([probe.withdrawn.size, changes()], [0, 0])
})

test('a withdrawn endpoint is asked less and less often, and comes back when it accepts', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass, dials, changes } = createFixture(resources)
  state.failure = 'unreachable'
  probe.suspect(pod)
  await pass(60_000)
  assert.ok(dials() > 10 && dials() < 20, String(dials()))
  // However often it is suspected meanwhile.
  for (let count = 0; count < 100; count++) probe.suspect(pod)
  await pass(50)
  assert.ok(dials() < 20, String(dials()))
  state.failure = undefined
  await pass(5_000)
  assert.deepEqual([probe.withdrawn.size, changes()], [0, 2])
})

test('when this node is short of ports the endpoint is not to blame', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass } = createFixture(resources)
  state.failure = 'overloaded'
  probe.suspect(pod)
  await pass(2_000)
  assert.equal(probe.withdrawn.size, 0)
})

test('an endpoint that is gone is forgotten, others are not', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass, dials } = createFixture(resources)
  state.failure = 'refused'
  probe.suspect(pod)
  probe.suspect({ ...pod, port: 81 })
  await pass(200)
  assert.equal(probe.withdrawn.size, 2)
  probe.keepOnly(({ port }) => port !== 80)
  await pass(50)
  assert.deepEqual([...probe.withdrawn], ['here/10.244.1.2:81'])
  const before = dials()
  probe.keepOnly(() => false)
  await pass(20_000)
  assert.deepEqual([probe.withdrawn.size, dials()], [0, before])
})

test('only so many endpoints are under observation at a time', async () => {
  await using resources = new AsyncDisposableStack()
  const { probe, state, pass, dials } = createFixture(resources)
  state.failure = 'refused'
  for (let port = 1; port <= 200; port++) probe.suspect({ ...pod, port })
  await pass(0)
  assert.equal(dials(), 64)
})

test('dials of endpoints on this node that fail are evidence, others are not', async () => {
  const suspected: string[] = []
  const failing = (error: Error): Dialer => ({ dial: () => Promise.reject(error) })
  const suspect = ({ address }: Backend) => void suspected.push(address)
  const never = new AbortController().signal
  for (const [nodeName, address, error] of [
    ['here', 'refusing', new DialError('refused', 'connect ECONNREFUSED')],
    ['here', 'silent', new DialError('unreachable', 'connect ETIMEDOUT')],
    ['here', 'busy', new DialError('overloaded', 'connect EADDRNOTAVAIL')],
    ['here', 'given up', new Error('the client went away')],
    ['there', 'elsewhere', new DialError('refused', 'connect ECONNREFUSED')],
    [undefined, 'outside', new DialError('refused', 'connect ECONNREFUSED')],
  ] as const) {
    const dialer = createSuspectingDialer(failing(error), 'here', { suspect })
    await assert.rejects(dialer.dial({ protocol: 'tcp', nodeName, address, port: 80 }, never), error)
  }
  assert.deepEqual(suspected, ['refusing', 'silent'])
})
