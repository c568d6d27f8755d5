import assert from 'node:assert/strict'
import { open } from 'node:fs/promises'
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

test('an observed gauge shows what is read at that moment, and nothing that is gone', async () => {
  const metrics = createMetrics()
  const servers = new Map([
    ['a', 1],
    ['b', 0],
  ])
  const read = () => [...servers].map(([server, value]) => ({ labels: { server }, value }))
  metrics.observe('connected', 'Connected', ['server'], () => [{ labels: { server: 'replaced' }, value: 1 }])
  metrics.observe('connected', 'Connected', ['server'], read)
  const shown = async () => (await metrics.render()).match(/^edgemesh_connected.*$/gm)
  assert.deepEqual(await shown(), ['edgemesh_connected{server="a"} 1', 'edgemesh_connected{server="b"} 0'])
  servers.delete('a')
  servers.set('b', 1)
  assert.deepEqual(await shown(), ['edgemesh_connected{server="b"} 1'])
})

test('metrics tell what the process takes at the moment they are rendered', async () => {
  const metrics = createMetrics()
  const read = async (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await metrics.render())?.[1])
  const held = await Promise.all(Array.from({ length: 50 }, () => open('/dev/null')))
  const openFiles = await read('process_open_fds')
  await Promise.all(held.map((file) => file.close()))
  // The test runner opens and closes files of its own meanwhile.
  const closedFiles = openFiles - (await read('process_open_fds'))
  assert.ok(closedFiles > 40 && closedFiles < 60, `${closedFiles} fewer open files after 50 were closed`)
  assert.ok((await read('process_resident_memory_bytes')) > (await read('nodejs_heap_size_used_bytes')))
  assert.ok((await read('nodejs_heap_size_used_bytes')) > 1_000_000)
  assert.ok((await read('nodejs_external_memory_bytes')) > 0)
})

test('what is read is a counter where its name says so', async () => {
  const metrics = createMetrics()
  let requests = 2
  metrics.observe('requests_total', 'Requests', ['code'], () => [{ value: requests, labels: { code: '2' } }])
  assert.match(await metrics.render(), /TYPE edgemesh_requests_total counter\nedgemesh_requests_total\{code="2"\} 2/)
  requests = 5
  assert.match(await metrics.render(), /edgemesh_requests_total\{code="2"\} 5/)
})
