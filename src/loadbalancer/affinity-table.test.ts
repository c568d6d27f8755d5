import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAffinityTable, mostClients } from './affinity-table.ts'

function createFixture() {
  const clock = { nowMs: 0 }
  return { clock, table: createAffinityTable(10_000, () => clock.nowMs) }
}

test('a client is remembered until its time is over, counted from its last connection', () => {
  const { clock, table } = createFixture()
  assert.equal(table.find('10.0.0.1'), undefined)
  table.remember('10.0.0.1', 'a')
  clock.nowMs = 9_999
  assert.equal(table.find('10.0.0.1'), 'a')
  table.remember('10.0.0.1', 'a')
  clock.nowMs = 19_998
  assert.equal(table.find('10.0.0.1'), 'a')
  clock.nowMs = 19_999
  assert.equal(table.find('10.0.0.1'), undefined)
})

test('when the table is full the client that was away longest is forgotten', () => {
  const { table } = createFixture()
  for (let client = 0; client < mostClients; client++) table.remember(String(client), 'a')
  table.remember('0', 'b')
  table.remember('new', 'c')
  assert.deepEqual([table.find('0'), table.find('1'), table.find('2'), table.find('new')], ['b', undefined, 'a', 'c'])
})
