import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import type { GatewayServer } from '../../model/index.ts'
import { createDirectDialer, startTcpListener } from '../../net/index.ts'
import { silentLogger } from '../../observability/index.ts'
import { ConnectionPool } from '../backends/connection-pool.ts'
import { Destinations } from '../backends/destinations.ts'
import { until } from '../requests/sample-site.ts'
import { buildRouteTable } from '../routing/build-route-table.ts'
import type { ListenerPlan } from '../routing/route-table.ts'
import { sampleCatalog, sampleGateway, sampleRule, sampleServer, sampleVirtualService } from '../samples.ts'
import { TlsTerminator } from '../tls/tls-terminator.ts'
import type { ConnectionSurroundings } from './connection.ts'
import { ListenerSet } from './listener-set.ts'

const direct = createDirectDialer()
const never = new AbortController().signal
const get = 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n'

function createSet(resources: AsyncDisposableStack, drainTimeoutMs = 2000): ListenerSet {
  const catalog = sampleCatalog([], [])
  const ring = { partitionCount: 100, replicationFactor: 10, load: 1.25 }
  const current = () => catalog.current
  const destinations = new Destinations({ current, nodeName: 'edge', clusterDomain: 'cluster.local', ring })
  const pool = resources.use(new ConnectionPool({ dialer: direct, nowMs: () => 0 }))
  const common = { destinations, random: () => 0, dialTimeoutMs: 1000 }
  const habits = { forwardedHeader: false, trustForwardedHeaders: false }
  const surroundings: ConnectionSurroundings = {
    handler: { ...common, pool, habits, nowMs: () => 0, onDone: () => {} },
    streams: { ...common, dialer: direct },
    terminator: new TlsTerminator({ secrets: () => new Map(), handshakeTimeoutMs: 1000 }),
    limits: { maxHeadBytes: 4096, headTimeoutMs: 5000, bodyTimeoutMs: 5000, idleTimeoutMs: 5000 },
    proxyProtocol: false,
    onStreamDone: () => {},
    onRefused: () => {},
  }
  return resources.use(new ListenerSet({ surroundings, maxConnections: 10, drainTimeoutMs, logger: silentLogger }))
}

/** Plans of servers that answer with a text themselves. */
function plansOf(text: string, ...servers: readonly Partial<GatewayServer>[]): readonly ListenerPlan[] {
  const action = { kind: 'answer', status: 200, body: Buffer.from(text).toString('base64') } as const
  const virtualServices = [sampleVirtualService({ http: [sampleRule('r', undefined, { action })] })]
  const gateways = [sampleGateway({ servers: servers.map((fields) => sampleServer(fields)) })]
  return buildRouteTable({ gateways, virtualServices, labels: {} }).listeners
}

async function freePort(): Promise<number> {
  await using listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection() {} })
  return listener.port
}

async function askAt(port: number, address = '127.0.0.1'): Promise<string> {
  const stream = await direct.dial({ protocol: 'tcp', address, port }, never)
  stream.on('error', () => {})
  stream.write(get)
  const chunks = await Array.fromAsync(stream)
  return Buffer.concat(chunks).toString('latin1').split('\r\n\r\n').at(-1) ?? ''
}

const statusOf = (set: ListenerSet) => set.status().map(({ address, problem }) => `${address} ${problem ?? 'listens'}`)
const allListen = (set: ListenerSet) => set.status().every(({ problem }) => problem === undefined)

suite('the listeners of a gateway', () => {
  test('are those of the plans, on each address', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const [one, two] = [await freePort(), await freePort()]
    set.set(plansOf('hi', { port: one }, { port: two }), ['127.0.0.1', '127.0.0.2'])
    await until(() => allListen(set))
    const expected = [one, two].flatMap((port) => [`127.0.0.1:${port} listens`, `127.0.0.2:${port} listens`])
    assert.deepEqual(statusOf(set).toSorted(), expected.toSorted())
    for (const port of [one, two]) {
      for (const address of ['127.0.0.1', '127.0.0.2']) assert.equal(await askAt(port, address), 'hi')
    }
  })

  test('change what they serve without being opened again', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const port = await freePort()
    set.set(plansOf('before', { port }), ['127.0.0.1'])
    await until(() => allListen(set))
    const standing = await direct.dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
    standing.on('error', () => {})
    await until(() => set.status()[0]?.connections === 1)
    set.set(plansOf('after', { port }), ['127.0.0.1'])
    assert.equal(set.status()[0]?.connections, 1)
    assert.equal(await askAt(port), 'after')
    standing.write(get)
    assert.match(Buffer.concat(await Array.fromAsync(standing)).toString(), /after$/)
  })

  test('come and go with addresses, and leave the others alone', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const port = await freePort()
    const plans = plansOf('hi', { port })
    set.set(plans, ['127.0.0.1', '127.0.0.2'])
    await until(() => allListen(set))
    const kept = await direct.dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
    kept.on('error', () => {})
    await until(() => set.status().some(({ connections }) => connections === 1))
    set.set(plans, ['127.0.0.1', '127.0.0.3'])
    await until(() => allListen(set))
    assert.equal(await askAt(port, '127.0.0.3'), 'hi')
    await assert.rejects(askAt(port, '127.0.0.2'), /ECONNREFUSED/)
    kept.write(get)
    assert.match(Buffer.concat(await Array.fromAsync(kept)).toString(), /hi$/)
  })

  test('of one address take it from those of all', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const port = await freePort()
    set.set(plansOf('hi', { port }, { port, bind: '127.0.0.9' }), ['127.0.0.1'])
    await until(() => allListen(set))
    assert.deepEqual(statusOf(set).toSorted(), [`127.0.0.1:${port} listens`, `127.0.0.9:${port} listens`])
    await assert.rejects(askAt(port, '127.0.0.2'), /ECONNREFUSED/)
  })

  test('that are told to listen everywhere are one socket', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const port = await freePort()
    set.set(plansOf('hi', { port, bind: '0.0.0.0' }, { port, bind: '127.0.0.9' }), ['0.0.0.0'])
    await until(() => allListen(set))
    assert.deepEqual(statusOf(set), [`0.0.0.0:${port} listens`])
    assert.equal(await askAt(port, '127.0.0.9'), 'hi')
  })

  test('may be at an address of IPv6', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const port = await freePort()
    set.set(plansOf('hi', { port, bind: '::1' }), ['127.0.0.1'])
    await until(() => set.status()[0]?.problem !== 'starting')
    const [listener] = set.status()
    assert.equal(listener?.address, `[::1]:${port}`)
    // A machine without IPv6 has no such address; then that is what it says.
    if (listener?.problem === undefined) assert.equal(await askAt(port, '::1'), 'hi')
    else assert.match(listener.problem, /::1|address/)
  })

  test('are no more once they drain, whatever is asked for', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources)
    const [port, other] = [await freePort(), await freePort()]
    set.set(plansOf('hi', { port }), ['127.0.0.1'])
    await until(() => allListen(set))
    await set.drain(never)
    await assert.rejects(askAt(port), /ECONNREFUSED/)
    set.set(plansOf('hi', { port: other }), ['127.0.0.1'])
    await assert.rejects(askAt(other), /ECONNREFUSED/)
  })

  test('cut what one that was taken away still carries when they end, instead of waiting for it', async () => {
    await using resources = new AsyncDisposableStack()
    const set = createSet(resources, 3_600_000)
    const port = await freePort()
    set.set(plansOf('hi', { port }), ['127.0.0.1'])
    await until(() => allListen(set))
    const busy = await direct.dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
    let answer = ''
    let isCut = false
    busy
      .on('error', () => {})
      .on('close', () => {
        isCut = true
      })
    busy.on('data', (chunk) => {
      answer += chunk
    })
    busy.write('POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhal')
    await until(() => answer.endsWith('hi'))
    set.set([], [])
    let isDrained = false
    const impatient = new AbortController()
    const draining = set.drain(impatient.signal).then(() => {
      isDrained = true
    })
    await turn()
    assert.deepEqual([isDrained, isCut], [false, false])
    impatient.abort()
    await draining
    let hasEnded = false
    void set[Symbol.asyncDispose]().then(() => {
      hasEnded = true
    })
    await until(() => hasEnded && isCut)
  })
})
