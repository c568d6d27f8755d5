import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../observability/index.ts'
import { aborted } from '../runtime/index.ts'
import { createBusyMeter, lastResortCollection, startMemoryTrim } from './trim-memory.ts'

const freeMs = 30_000
const againMs = 600_000

/** Runs a trim whose waits pass at once, but for those after it; `busy` is what it finds at each look, the first of which begins to measure. */
async function stepsWith(busy: readonly number[], heldBytes = 90e6): Promise<readonly string[]> {
  const steps: string[] = []
  const parts = [...busy]
  const { promise: done, resolve } = Promise.withResolvers<void>()
  await using _trim = startMemoryTrim({
    native: {
      releaseMemory() {
        if (parts.length === 0) resolve()
        return steps.push('released')
      },
      trimFreeMemory: () => assert.fail('too soon'),
    },
    collect: () => void steps.push('collected'),
    busyPart: () => {
      const part = parts.shift() ?? assert.fail('looked too often')
      steps.push(`busy ${part}`)
      return part
    },
    heldBytes: () => heldBytes,
    async wait(durationMs, signal) {
      if (durationMs === freeMs || durationMs === againMs) await aborted(signal)
      signal.throwIfAborted()
      steps.push(`waited ${durationMs}`)
    },
    logger: silentLogger,
  })
  await done
  return steps
}

test('an idle process collects its garbage and then gives memory back, once, after it has settled', async () => {
  const expected = ['waited 500', 'waited 10000', 'busy 1', 'waited 5000', 'busy 0.01', 'collected', 'released']
  assert.deepEqual(await stepsWith([1, 0.01]), expected)
})

test('a start that took much gives back at once, and what was left when the process is idle', async () => {
  const steps = await stepsWith([1, 0.01], 180e6)
  assert.deepEqual(steps.slice(0, 4), ['waited 500', 'collected', 'released', 'waited 10000'])
  assert.deepEqual(steps.slice(-3), ['busy 0.01', 'collected', 'released'])
})

test('a busy process is left alone until it is idle', async () => {
  const steps = await stepsWith([1, 0.3, 0.06, 0.02])
  assert.deepEqual(steps.slice(-4), ['waited 5000', 'busy 0.02', 'collected', 'released'])
  assert.equal(steps.filter((step) => step === 'collected').length, 1)
})

test('memory is given back again in the quiet after a burst, at most every ten minutes', async () => {
  const steps: string[] = []
  const held = [90e6, 60e6, 99e6, 101e6, 58e6]
  const { promise: done, resolve } = Promise.withResolvers<void>()
  await using _trim = startMemoryTrim({
    native: { releaseMemory: () => steps.push('released'), trimFreeMemory() {} },
    collect: undefined,
    busyPart: () => 0.01,
    heldBytes: () => held.shift() ?? assert.fail('looked too often'),
    async wait(durationMs, signal) {
      if (durationMs === againMs && held.length === 0) resolve()
      if (durationMs === freeMs || held.length === 0) await aborted(signal)
      signal.throwIfAborted()
      steps.push(`waited ${durationMs}`)
    },
    logger: silentLogger,
  })
  await done
  const first = ['waited 500', 'waited 10000', 'waited 5000', 'released']
  assert.deepEqual(steps, [...first, 'waited 600000', 'waited 600000', 'waited 5000', 'released'])
})

test('what is kept free is given back twice a minute, also by a process that is never idle', async () => {
  const { promise: done, resolve } = Promise.withResolvers<void>()
  let waits = 0
  let trims = 0
  const trim = startMemoryTrim({
    native: {
      releaseMemory: () => assert.fail('not idle'),
      trimFreeMemory() {
        trims += 1
        assert.equal(trims, waits)
        if (trims === 5) resolve()
      },
    },
    collect: () => assert.fail('not idle'),
    busyPart: () => 1,
    heldBytes: () => 90e6,
    async wait(durationMs, signal) {
      if (durationMs === freeMs) waits += 1
      await new Promise(setImmediate)
      signal.throwIfAborted()
    },
    logger: silentLogger,
  })
  await done
  await trim[Symbol.asyncDispose]()
})

test('a process that ends before is not trimmed', async () => {
  const { promise: waiting, resolve } = Promise.withResolvers<void>()
  const steps: string[] = []
  const trim = startMemoryTrim({
    native: { releaseMemory: () => steps.push('released'), trimFreeMemory: () => void steps.push('trimmed') },
    collect: () => void steps.push('collected'),
    busyPart: () => 0,
    heldBytes: () => 180e6,
    async wait(_durationMs, signal) {
      resolve()
      await aborted(signal)
      signal.throwIfAborted()
    },
    logger: silentLogger,
  })
  await waiting
  await trim[Symbol.asyncDispose]()
  assert.deepEqual(steps, [])
})

test('the busy meter tells apart a loop that works from one that waits', async () => {
  const busyPart = createBusyMeter()
  const end = performance.now() + 50
  while (performance.now() < end);
  await new Promise(setImmediate)
  const working = busyPart()
  await new Promise((resolve) => setTimeout(resolve, 100))
  assert.ok(busyPart() < working)
})

test('garbage is collected only where V8 offers it', () => {
  assert.equal(lastResortCollection() === undefined, globalThis.gc === undefined)
  lastResortCollection()?.()
})
