import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createHealth, createMetrics, type LogFields, type Logger, silentLogger } from '../observability/index.ts'
import { type MetricsServer, startMetricsServer } from './metrics-server.ts'

const retry = { firstMs: 1, maxMs: 1, jitter: 0 }

/** A port of 127.0.0.1 that is held until `close`. */
async function holdPort(): Promise<{ readonly server: Server; readonly port: number }> {
  const server = createServer((socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  return { server, port: address.port }
}

async function freePort(): Promise<number> {
  const { server, port } = await holdPort()
  server.close()
  await once(server, 'close')
  return port
}

function start(port: number, more: { readonly enable?: boolean; readonly address?: string } = {}) {
  const log: (readonly [message: string, fields: LogFields])[] = []
  const record: Logger['info'] = (fields, message) => log.push([message, fields])
  const metrics = createMetrics()
  const health = createHealth()
  const metricConfig = { enable: true, address: '127.0.0.1', port, ...more }
  const server = startMetricsServer({
    config: { modules: { edgeTunnel: { metricConfig } } },
    metrics,
    health,
    loggerOf: () => ({ ...silentLogger, info: record, warn: record }),
    retry,
  })
  return { log, metrics, health, server }
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 5_000
  while (!holds()) {
    assert.ok(performance.now() < deadline, `not within 5 s: ${holds}`)
    await delay(1)
  }
}

const isServed = (server: MetricsServer) => () => server.status()?.problem === undefined

test('metrics, readiness and liveness are served, and nothing else, to GET alone', async () => {
  const port = await freePort()
  const { log, metrics, health, server } = start(port)
  await using _server = server
  await until(() => log.length > 0)
  assert.deepEqual(log[0], ['metrics are served', { address: `127.0.0.1:${port}` }])
  metrics.counter('apples_total', 'Apples').add(3)
  const ask = async (path: string, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { method })
    return [response.status, await response.text()] as const
  }
  const [status, page] = await ask('/metrics?x=1')
  assert.equal(status, 200)
  assert.match(page, /^edgemesh_apples_total 3$/m)
  const waiting = health.block('first list')
  assert.deepEqual(await ask('/readyz'), [503, 'waits for first list\n'])
  waiting[Symbol.dispose]()
  assert.deepEqual(await ask('/readyz'), [200, 'ready\n'])
  assert.deepEqual(await ask('/livez'), [200, 'alive\n'])
  for (const path of ['/', '/status', '/unpin?name=a']) assert.equal((await ask(path))[0], 404, path)
  for (const path of ['/metrics', '/unpin?name=a']) assert.equal((await ask(path, 'POST'))[0], 404, path)
})

test('a port that is taken is told once and tried again until it is free', async () => {
  const { server: holder, port } = await holdPort()
  const { log, server } = start(port)
  await using _server = server
  await until(() => server.status()?.problem !== undefined)
  assert.equal(server.status()?.address, `127.0.0.1:${port}`)
  assert.match(server.status()?.problem ?? '', /^Cannot listen on tcp 127\.0\.0\.1:\d+: address is already in use/)
  await delay(20)
  holder.close()
  await until(isServed(server))
  assert.equal((await fetch(`http://127.0.0.1:${port}/livez`)).status, 200)
  assert.deepEqual(
    log.map(([message]) => message),
    ['metrics are not served; trying again', 'metrics are served'],
  )
})

test('an address that is not on this node is a problem, not an end', async () => {
  const { server } = start(await freePort(), { address: '192.0.2.1' })
  await using _server = server
  await until(() => server.status()?.problem !== undefined)
  assert.match(server.status()?.problem ?? '', /no such address on this node/)
})

test('nothing listens when metrics are off, nor after disposal', async () => {
  const port = await freePort()
  const off = start(port, { enable: false })
  assert.equal(off.server.status(), undefined)
  await off.server[Symbol.asyncDispose]()
  const on = start(port)
  await until(() => on.log.length > 0)
  await on.server[Symbol.asyncDispose]()
  await assert.rejects(fetch(`http://127.0.0.1:${port}/livez`))
})
