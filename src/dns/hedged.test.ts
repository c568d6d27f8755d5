import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Attempt, answeredElsewhere, type HedgeOptions, hedged } from './hedged.ts'

/** Attempts that end when the test says so. */
function createAttempts(count: number) {
  const begun: number[] = []
  const signals: AbortSignal[] = []
  const ends = Array.from({ length: count }, () => Promise.withResolvers<string | undefined>())
  const attempts = ends.map(
    ({ promise }, index): Attempt<string> =>
      (signal) => {
        begun.push(index)
        signals[index] = signal
        return promise
      },
  )
  return { attempts, begun, signals, end: (index: number, result?: string) => ends[index]?.resolve(result) }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))
const isGood = (result: string) => result !== 'bad'

function optionsOf(changes: Partial<HedgeOptions<string>> = {}): HedgeOptions<string> {
  return { delayMsOf: () => 60_000, isGood, totalMs: 60_000, signal: new AbortController().signal, ...changes }
}

test('the first attempt alone is enough when it succeeds', async () => {
  const { attempts, begun, end, signals } = createAttempts(2)
  const result = hedged(attempts, optionsOf())
  end(0, 'one')
  assert.equal(await result, 'one')
  assert.deepEqual([begun, signals[0]?.aborted], [[0], true])
})

test('the next attempt begins at once when one fails', async () => {
  const { attempts, begun, end } = createAttempts(2)
  const result = hedged(attempts, optionsOf())
  end(0)
  await turn()
  assert.deepEqual(begun, [0, 1])
  end(1, 'two')
  assert.equal(await result, 'two')
})

test('the next attempt begins beside one that takes long, and the faster one wins', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const { attempts, begun, end, signals } = createAttempts(3)
  const result = hedged(attempts, optionsOf({ delayMsOf: (index) => (index === 0 ? 100 : 200) }))
  context.mock.timers.tick(99)
  assert.deepEqual(begun, [0])
  context.mock.timers.tick(1)
  assert.deepEqual(begun, [0, 1])
  context.mock.timers.tick(199)
  assert.deepEqual(begun, [0, 1])
  end(1, 'two')
  assert.equal(await result, 'two')
  assert.equal(signals[0]?.reason, answeredElsewhere)
  context.mock.timers.tick(1000)
  assert.deepEqual(begun, [0, 1])
})

test('a result that is not good is the last resort', async () => {
  const { attempts, end } = createAttempts(3)
  const result = hedged(attempts, optionsOf())
  end(0, 'bad')
  end(1)
  end(2)
  assert.equal(await result, 'bad')
})

test('without attempts, or when all fail, there is no result', async () => {
  assert.equal(await hedged([], optionsOf()), undefined)
  const { attempts, end } = createAttempts(1)
  const result = hedged(attempts, optionsOf())
  end(0)
  assert.equal(await result, undefined)
})

test('when the time is up or nobody wants it any more, what there is must do', async (context) => {
  context.mock.timers.enable({ apis: ['setTimeout'] })
  const late = createAttempts(2)
  const result = hedged(late.attempts, optionsOf({ totalMs: 500 }))
  late.end(0, 'bad')
  await turn()
  context.mock.timers.tick(500)
  assert.equal(await result, 'bad')
  assert.equal(late.signals[1]?.aborted, true)
  const stopping = new AbortController()
  const stopped = createAttempts(1)
  const none = hedged(stopped.attempts, optionsOf({ signal: stopping.signal }))
  stopping.abort()
  assert.equal(await none, undefined)
})
