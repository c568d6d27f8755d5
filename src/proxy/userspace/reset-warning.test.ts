import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type LogFields, silentLogger } from '../../observability/index.ts'
import { createResetWarning } from './reset-warning.ts'

function createFixture() {
  const clock = { nowMs: 0 }
  const told: LogFields[] = []
  const warn = createResetWarning({ ...silentLogger, warn: (fields) => void told.push(fields) }, () => clock.nowMs)
  return { clock, told, warn }
}

test('the same reason is told once in ten seconds, then with the number of those left out', () => {
  const { clock, told, warn } = createFixture()
  for (let count = 0; count < 5; count++) warn('shop/web:80/tcp', 'refused')
  assert.deepEqual(told, [{ servicePort: 'shop/web:80/tcp', reason: 'refused', count: 1 }])
  clock.nowMs += 10_000
  warn('shop/web:80/tcp', 'refused')
  assert.equal(told[1]?.count, 5)
  clock.nowMs += 10_000
  warn('shop/web:80/tcp', 'refused')
  assert.equal(told[2]?.count, 1)
})

test('other reasons and other ServicePorts are told at once', () => {
  const { told, warn } = createFixture()
  warn('shop/web:80/tcp', 'refused')
  warn('shop/web:80/tcp', 'no route')
  warn('shop/api:80/tcp', 'refused')
  assert.equal(told.length, 3)
})

test('only the oldest of very many reasons are forgotten', () => {
  const { told, warn } = createFixture()
  for (let count = 0; count <= 1_000; count++) warn('shop/web:80/tcp', `reason ${count}`)
  warn('shop/web:80/tcp', 'reason 500')
  assert.equal(told.length, 1_001)
  warn('shop/web:80/tcp', 'reason 0')
  assert.equal(told.length, 1_002)
})
