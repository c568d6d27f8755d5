import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Balancer, createBalancer } from '../../loadbalancer/index.ts'
import type { Backend } from '../../model/index.ts'
import { type ByteStream, createMemoryStreamPair, DialError, type Dialer, type DialTarget } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import { dialFirstReachable, NoBackendError } from './dial-first-reachable.ts'

const never = new AbortController().signal
const policy = { maxAttempts: 4, attemptTimeoutMs: 5_000, slowAfterMs: 1_000, totalTimeoutMs: 8_000 }
const [a, b, c] = [1, 2, 3].map((port) => ({ nodeName: 'edge', address: '10.0.0.1', port })) as [
  Backend,
  Backend,
  Backend,
]

type Answer = 'accepts' | 'refuses' | 'hangs'

/** Backends by port that accept, refuse, or never answer. */
function createFixture(answers: Record<number, Answer>) {
  const dialled: number[] = []
  const failed: number[] = []
  const hanging = new Map<number, (stream: ByteStream) => void>()
  const given = {
    aborted: [] as number[],
    /** Makes a hanging dial succeed after all. */
    answer(port: number): ByteStream {
      const [stream, farEnd] = createMemoryStreamPair()
      farEnd.on('error', () => {})
      hanging.get(port)?.(stream)
      return stream
    },
  }
  const balancer = createBalancer({ balancing: { kind: 'round-robin' } }, { random: () => 0, nowMs: () => 0 })
  balancer.setBackends([a, b, c], [])
  const dialer: Dialer = {
    dial({ address, port }: DialTarget, signal) {
      dialled.push(port)
      if (answers[port] === 'accepts') return Promise.resolve(createMemoryStreamPair()[0])
      if (answers[port] === 'refuses') {
        return Promise.reject(new DialError('refused', `connect ECONNREFUSED ${address}:${port}`))
      }
      return new Promise((resolve, reject) => {
        hanging.set(port, resolve)
        signal.addEventListener('abort', () => {
          given.aborted.push(port)
          reject(signal.reason)
        })
      })
    },
  }
  const dial = (signal = never) =>
    dialFirstReachable({ dialer, balancer, policy, onFailure: ({ backend }) => failed.push(backend.port) }, signal)
  return { dialled, failed, given, balancer, dial }
}

/** The first choices of the next three connections. */
function nextPicks(balancer: Balancer): (number | undefined)[] {
  return [1, 2, 3].map(() => balancer.attempts().next().value?.port)
}

/** Lets the timers pass in steps, with the promises that depend on them settled in between. */
async function pass(context: TestContext, durationMs: number): Promise<void> {
  for (let passed = 0; passed < durationMs; passed += 500) {
    context.mock.timers.tick(500)
    await new Promise(setImmediate)
  }
}

test('backends are dialled until one accepts', async () => {
  const { dial, dialled, failed } = createFixture({ 1: 'refuses', 2: 'accepts' })
  const { backend } = await dial()
  assert.deepEqual([backend.port, dialled, failed], [2, [1, 2], [1]])
})

test('the error of a dial that nobody accepts tells all failures', async () => {
  const { dial } = createFixture({ 1: 'refuses', 2: 'refuses', 3: 'refuses' })
  await assert.rejects(dial(), (error) => {
    assert.ok(error instanceof NoBackendError)
    assert.equal(
      describeError(error),
      'Cannot reach any backend: 3 attempts failed: connect ECONNREFUSED 10.0.0.1:1; ' +
        'connect ECONNREFUSED 10.0.0.1:2; connect ECONNREFUSED 10.0.0.1:3',
    )
    return true
  })
})

test('beside a backend that is slow to answer the next one is dialled, and taken when it answers', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, dialled, given } = createFixture({ 1: 'hangs', 2: 'accepts' })
  const dialling = dial()
  await pass(context, 500)
  assert.deepEqual(dialled, [1])
  await pass(context, 500)
  assert.deepEqual([(await dialling).backend.port, dialled, given.aborted], [2, [1, 2], [1]])
})

test('a slow backend that answers before the next one is taken, and the other dial ends', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, balancer, given } = createFixture({ 1: 'hangs', 2: 'hangs', 3: 'accepts' })
  const dialling = dial()
  await pass(context, 1_500)
  given.answer(1)
  assert.equal((await dialling).backend.port, 1)
  assert.deepEqual(given.aborted, [2])
  // The slow one has proved itself; the one that it beat has not.
  assert.deepEqual(nextPicks(balancer), [3, 1, 3])
})

test('a stream of a dial that was no longer needed is closed', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, given } = createFixture({ 1: 'hangs', 2: 'hangs' })
  const dialling = dial()
  await pass(context, 1_500)
  const [late] = [given.answer(2), given.answer(1)].slice(1)
  assert.equal((await dialling).backend.port, 2)
  await new Promise(setImmediate)
  assert.equal(late?.destroyed, true)
})

test('while one backend hangs, those that refuse are passed over at once', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, dialled, failed } = createFixture({ 1: 'hangs', 2: 'refuses', 3: 'accepts' })
  const dialling = dial()
  await pass(context, 1_000)
  assert.deepEqual([(await dialling).backend.port, dialled, failed], [3, [1, 2, 3], [2]])
})

test('a backend that is slow to answer is avoided by others before its dial has failed', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, balancer, given } = createFixture({ 1: 'hangs', 2: 'hangs', 3: 'accepts' })
  const dialling = dial()
  await pass(context, 500)
  assert.deepEqual(nextPicks(balancer), [2, 3, 1])
  await pass(context, 500)
  assert.deepEqual(nextPicks(balancer), [3, 2, 3])
  given.answer(1)
  await dialling
})

test('a timeout is told with the target and the node', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { dial, balancer } = createFixture({ 1: 'hangs' })
  balancer.setBackends([a], [])
  const rejected = assert.rejects(dial(), (error) => {
    assert.match(describeError(error), /connect ETIMEDOUT 10\.0\.0\.1:1 on edge \(5000 ms\)/)
    return true
  })
  await pass(context, 5_000)
  await rejected
})

test('the signal ends the dial at once, with its reason and without blame for the backend', async () => {
  const { dial, dialled, failed, balancer } = createFixture({ 1: 'hangs', 2: 'accepts' })
  const controller = new AbortController()
  const dialling = dial(controller.signal)
  controller.abort(new Error('the client went away'))
  await assert.rejects(dialling, /the client went away/)
  assert.deepEqual([dialled, failed], [[1], []])
  assert.deepEqual(nextPicks(balancer), [2, 3, 1])
})

test('all attempts together keep to the total time', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  let nowMs = 0
  context.mock.method(performance, 'now', () => nowMs)
  const { dial, dialled } = createFixture({ 1: 'hangs', 2: 'hangs', 3: 'hangs' })
  const rejected = assert.rejects(dial(), NoBackendError)
  for (let step = 0; step < 16; step++) {
    nowMs += 500
    await pass(context, 500)
  }
  await rejected
  assert.deepEqual(dialled, [1, 2, 3])
})
