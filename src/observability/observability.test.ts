import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHealth } from './health.ts'
import { describeError } from './logger.ts'
import { createMetrics } from './metrics.ts'

test('an error is told with its causes, without repeating them', () => {
  const refused = new Error('connect ECONNREFUSED 10.0.0.1:80')
  assert.equal(
    describeError(new Error('Cannot dial edge-b', { cause: refused })),
    'Cannot dial edge-b: connect ECONNREFUSED 10.0.0.1:80',
  )
  assert.equal(
    describeError(new AggregateError([refused, 'x'], 'all failed')),
    'all failed: connect ECONNREFUSED 10.0.0.1:80; x',
  )
})

test('readiness lists what is missing by name', () => {
  const health = createHealth()
  const waiting = health.block('first Service list')
  assert.deepEqual(health.waitingFor(), ['first Service list'])
  waiting[Symbol.dispose]()
  assert.deepEqual(health.waitingFor(), [])
})

test('metrics render as Prometheus text and one name is one metric', async () => {
  const metrics = createMetrics()
  metrics.counter('dns_dropped_total', 'Dropped', ['reason']).add(2, { reason: 'malformed' })
  metrics.counter('dns_dropped_total', 'Dropped', ['reason']).add(1, { reason: 'malformed' })
  metrics.gauge('flows', 'Open flows').set(7)
  const text = await metrics.render()
  assert.match(text, /edgemesh_dns_dropped_total\{reason="malformed"\} 3/)
  assert.match(text, /edgemesh_flows 7/)
})
