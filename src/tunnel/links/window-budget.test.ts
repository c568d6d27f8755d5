import assert from 'node:assert/strict'
import { test } from 'node:test'
import { firstWindowBytes, type Holder, maxWindowBytes, smallWindowBytes, WindowBudget } from './window-budget.ts'

const megabyte = 1024 * 1024
const limits = {
  growthBytes: 7.5 * megabyte,
  pressureBytes: 4 * megabyte,
  maxHeldBytes: 6 * megabyte,
  maxReplayBytes: megabyte,
}

function createHolder(budget: WindowBudget, heldBytes = 0) {
  const holder: Holder & { isOver: boolean } = {
    heldBytes,
    isOver: false,
    overflow() {
      holder.isOver = true
      budget.leave(holder, firstWindowBytes, heldBytes)
    },
  }
  return holder
}

test('few flows begin with a large window, many with a small one', () => {
  const budget = new WindowBudget(limits)
  for (let count = 0; count < 128; count++) assert.equal(budget.enter(createHolder(budget)), firstWindowBytes)
  assert.equal(budget.enter(createHolder(budget)), smallWindowBytes)
})

test('a window doubles up to its limit while there is room for growth in sum', () => {
  const budget = new WindowBudget(limits)
  let window = firstWindowBytes
  for (let step = 0; step < 10; step++) window = budget.grow(window)
  assert.equal(window, maxWindowBytes)
  let second = firstWindowBytes
  for (let step = 0; step < 10; step++) second = budget.grow(second)
  assert.equal(second, maxWindowBytes)
  assert.equal(budget.grow(firstWindowBytes), firstWindowBytes)
  budget.leave(createHolder(budget), 0, 0)
  const holder = createHolder(budget)
  budget.enter(holder)
  budget.leave(holder, maxWindowBytes, 0)
  assert.equal(budget.grow(firstWindowBytes), 2 * firstWindowBytes)
})

test('while much is held nothing grows, and windows shrink', () => {
  const budget = new WindowBudget(limits)
  const holder = createHolder(budget, 5 * megabyte)
  budget.enter(holder)
  const window = budget.grow(firstWindowBytes)
  budget.adjust(5 * megabyte)
  assert.equal(budget.grow(window), window)
  assert.equal(budget.shrink(window), smallWindowBytes)
  assert.equal(budget.enter(createHolder(budget)), smallWindowBytes)
  budget.leave(holder, smallWindowBytes, 5 * megabyte)
  assert.equal(budget.heldBytes, 0)
  assert.equal(budget.shrink(window), window)
})

test('beyond the limit the flow that holds most is given up, and only that one', () => {
  const budget = new WindowBudget(limits)
  const small = createHolder(budget, 2 * megabyte)
  const large = createHolder(budget, 5 * megabyte)
  for (const holder of [small, large]) {
    budget.enter(holder)
    budget.adjust(holder.heldBytes)
  }
  assert.deepEqual([small.isOver, large.isOver], [false, true])
  assert.equal(budget.heldBytes, 2 * megabyte)
})

test('leaving twice counts once', () => {
  const budget = new WindowBudget(limits)
  const holder = createHolder(budget)
  budget.enter(holder)
  budget.adjust(10)
  budget.leave(holder, firstWindowBytes, 10)
  budget.leave(holder, firstWindowBytes, 10)
  assert.equal(budget.heldBytes, 0)
})

test('what is kept for sending again is bounded on its own', () => {
  const budget = new WindowBudget(limits)
  assert.ok(budget.takeReplay(megabyte))
  assert.ok(!budget.takeReplay(1))
  budget.giveReplay(1000)
  assert.equal(budget.replayBytes, megabyte - 1000)
  assert.ok(budget.takeReplay(1000))
})
