import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createSpareSources } from './spare-sources.ts'

function createFixture(addresses: readonly string[] = ['10.0.0.1', '10.0.0.2']) {
  const clock = { nowMs: 0 }
  let looks = 0
  const look = () => {
    looks += 1
    return addresses
  }
  return { clock, spare: createSpareSources(look, () => clock.nowMs), looks: () => looks }
}

test('until ports run out the kernel chooses, and nobody looks for addresses', () => {
  const { spare, looks } = createFixture()
  assert.equal(spare.sourceFor('a'), undefined)
  assert.equal(looks(), 0)
})

test('a target without ports left is dialled from all addresses in turn, others are not', () => {
  const { spare } = createFixture()
  assert.equal(spare.usedUp('a'), true)
  assert.deepEqual(
    [1, 2, 3].map(() => spare.sourceFor('a')),
    ['10.0.0.2', '10.0.0.1', '10.0.0.2'],
  )
  assert.equal(spare.sourceFor('b'), undefined)
})

test('a minute after ports last ran out the kernel chooses again', () => {
  const { clock, spare } = createFixture()
  spare.usedUp('a')
  clock.nowMs = 59_999
  assert.ok(spare.sourceFor('a'))
  spare.usedUp('a')
  clock.nowMs = 119_998
  assert.ok(spare.sourceFor('a'))
  clock.nowMs = 119_999
  assert.equal(spare.sourceFor('a'), undefined)
})

test('without any other address there is nothing to try', () => {
  const { spare } = createFixture([])
  assert.equal(spare.usedUp('a'), false)
  assert.equal(spare.sourceFor('a'), undefined)
})

test('the addresses of this node are found', () => {
  const spare = createSpareSources()
  const source = spare.usedUp('a') ? spare.sourceFor('a') : '0.0.0.0'
  assert.match(String(source), /^\d+\.\d+\.\d+\.\d+$/)
})

test('a target that is dialled often has its dials spread before ports run out, others do not', () => {
  let now = 0
  const sources = createSpareSources(
    () => ['10.0.0.1', '10.0.0.2'],
    () => now,
  )
  for (let dial = 0; dial < 2_000; dial++) assert.equal(sources.sourceFor('busy'), undefined)
  const next = new Set([sources.sourceFor('busy'), sources.sourceFor('busy')])
  assert.deepEqual([...next].sort(), ['10.0.0.1', '10.0.0.2'])
  assert.equal(sources.sourceFor('calm'), undefined)
  now = 130_000
  assert.equal(sources.sourceFor('busy'), undefined)
})
