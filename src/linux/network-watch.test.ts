import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { type Logger, silentLogger } from '../observability/index.ts'
import { NetworkWatch } from './network-watch.ts'

/** A network that says when it is looked at. */
function createNetwork() {
  const looks = new EventTarget()
  const state = { text: 'first', looks: 0, failure: undefined as Error | undefined }
  return {
    state,
    fingerprint: async () => {
      state.looks += 1
      looks.dispatchEvent(new Event('look'))
      if (state.failure !== undefined) throw state.failure
      return state.text
    },
    /** Resolves when two more looks have begun, so that what the first of them saw has been told. */
    async lookedAt() {
      await once(looks, 'look')
      await once(looks, 'look')
    },
  }
}

function recordingLogger(lines: string[]): Logger {
  const record: Logger['warn'] = ({ error }, message) => lines.push(`${message}: ${String(error)}`)
  return { ...silentLogger, warn: record, error: record }
}

test('each change is told once, and nothing while there is none', async () => {
  const network = createNetwork()
  using watch = new NetworkWatch({ fingerprint: network.fingerprint, logger: silentLogger, intervalMs: 1 })
  let told = 0
  await watch.add(() => {
    told += 1
  })
  await network.lookedAt()
  assert.equal(told, 0)
  network.state.text = 'second'
  await network.lookedAt()
  await network.lookedAt()
  assert.equal(told, 1)
  network.state.text = 'first'
  await network.lookedAt()
  assert.equal(told, 2)
})

test('a listener that throws is logged, and neither it nor the others miss later changes', async () => {
  const network = createNetwork()
  const lines: string[] = []
  using watch = new NetworkWatch({
    fingerprint: network.fingerprint,
    logger: recordingLogger(lines),
    intervalMs: 1,
  })
  const told: string[] = []
  await watch.add(() => {
    told.push('faulty')
    throw new Error('boom')
  })
  await watch.add(() => told.push('sound'))
  for (const text of ['second', 'third']) {
    network.state.text = text
    await network.lookedAt()
  }
  assert.deepEqual(told, ['faulty', 'sound', 'faulty', 'sound'])
  assert.deepEqual(lines, Array(2).fill('a change of the network could not be handled: Error: boom'))
})

test('what changed while the network could not be read is told once it can be, and the trouble is logged once', async () => {
  const network = createNetwork()
  const lines: string[] = []
  using watch = new NetworkWatch({
    fingerprint: network.fingerprint,
    logger: recordingLogger(lines),
    intervalMs: 1,
  })
  let told = 0
  await watch.add(() => {
    told += 1
  })
  network.state.failure = new Error('no buffer space')
  await network.lookedAt()
  await network.lookedAt()
  network.state.text = 'second'
  network.state.failure = undefined
  await network.lookedAt()
  assert.equal(told, 1)
  assert.deepEqual(lines, ['cannot look at the network of this node; trying again: Error: no buffer space'])
})

test('a network that cannot be read at first rejects, and can be watched later', async () => {
  const network = createNetwork()
  using watch = new NetworkWatch({ fingerprint: network.fingerprint, logger: silentLogger, intervalMs: 1 })
  network.state.failure = new Error('permission denied')
  await assert.rejects(
    watch.add(() => assert.fail('was told')),
    /permission denied/,
  )
  network.state.failure = undefined
  const { promise, resolve } = Promise.withResolvers<void>()
  await watch.add(resolve)
  network.state.text = 'second'
  await promise
})

test('all listeners share the looks, and one that is disposed is told nothing', async () => {
  const network = createNetwork()
  using watch = new NetworkWatch({ fingerprint: network.fingerprint, logger: silentLogger, intervalMs: 1 })
  const told: string[] = []
  const [first] = await Promise.all([watch.add(() => told.push('first')), watch.add(() => told.push('second'))])
  assert.equal(network.state.looks, 1)
  first[Symbol.dispose]()
  network.state.text = 'second'
  await network.lookedAt()
  assert.deepEqual(told, ['second'])
})
