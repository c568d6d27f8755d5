/**
 * ServicePorts whose policy reads requests, over loopback TCP.
 *
 *     client -> 127.0.0.2:port (shop/web, HTTP) -> userspace proxy -> one of three backends
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import type { Backend, HashKey } from '../../model/index.ts'
import { createDirectDialer, startTcpListener } from '../../net/index.ts'
import { createMetrics, silentLogger } from '../../observability/index.ts'
import { placed } from '../places.fixture.ts'
import { startUserspaceProxy } from './userspace-proxy.ts'

const webAddress = '127.0.0.2'
const direct = createDirectDialer()
const never = new AbortController().signal

interface Answer {
  readonly backend: string
  readonly headers: IncomingHttpHeaders
  readonly status: number | undefined
}

async function createFixture(resources: AsyncDisposableStack, key: HashKey) {
  const warnings: unknown[] = []
  const proxy = resources.use(
    await startUserspaceProxy({
      host: '0.0.0.0',
      port: 0,
      dialer: direct,
      balancing: 'round-robin',
      dialTimeoutMs: 2_000,
      logger: { ...silentLogger, warn: (fields) => void warnings.push(fields) },
      metrics: createMetrics(),
    }),
  )
  const backends: Backend[] = []
  for (const name of ['one', 'two', 'three']) {
    const server = createServer((_incoming, response) => response.end(name))
    const listener = resources.use(
      await startTcpListener({
        host: '127.0.0.1',
        port: 0,
        onConnection: (socket) => server.emit('connection', socket),
      }),
    )
    backends.push({ address: listener.address, port: listener.port })
  }
  const policy = { balancing: { kind: 'consistent-hash', key, ring: { kind: 'ring' } }, readsRequests: true } as const
  const setBackends = (preferred: readonly Backend[]) =>
    void proxy.setRoutes(
      placed(proxy, [[webAddress, { id: 'shop/web:http/tcp', protocol: 'tcp', preferred, others: [], policy }]]),
    )
  setBackends(backends)
  const dial = async () => {
    const client = await direct.dial({ protocol: 'tcp', address: webAddress, port: proxy.ports[0] ?? 0 }, never)
    resources.defer(() => void client.destroy())
    return client
  }
  /** Asks over one connection, again and again. */
  const client = await dial()
  const ask = async (path: string, headers: Record<string, string> = {}): Promise<Answer> => {
    const outgoing = request({ createConnection: () => client, path, headers: { Host: 'web', ...headers } })
    outgoing.shouldKeepAlive = true
    outgoing.end()
    const [answer] = await once(outgoing, 'response')
    return { backend: await text(answer), headers: answer.headers, status: answer.statusCode }
  }
  return { proxy, backends, setBackends, dial, ask, warnings }
}

const header: HashKey = { kind: 'http-header', name: 'x-user' }
const keepAlive = { Connection: 'keep-alive' }

test('requests of one connection go by their header, and stay with their backend', async () => {
  await using resources = new AsyncDisposableStack()
  const { ask } = await createFixture(resources, header)
  const first = new Map<string, string>()
  for (let round = 0; round < 3; round++) {
    for (let user = 0; user < 60; user++) {
      const { backend } = await ask('/', { ...keepAlive, 'x-user': `user ${user}` })
      assert.equal(backend, first.get(String(user)) ?? backend)
      first.set(String(user), backend)
    }
  }
  assert.equal(new Set(first.values()).size, 3)
})

test('a client without the cookie is given one, and stays with its backend from then on', async () => {
  await using resources = new AsyncDisposableStack()
  const { ask } = await createFixture(resources, { kind: 'http-cookie', name: 'seat', ttlMs: 60_000 })
  const seats = new Set<string>()
  for (let client = 0; client < 40; client++) {
    const { backend, headers } = await ask('/', keepAlive)
    const [cookie = ''] = headers['set-cookie'] ?? []
    assert.match(cookie, /^seat=[0-9a-f]{32}; Max-Age=60; Path=\/; HttpOnly$/)
    for (let round = 0; round < 3; round++) {
      const again = await ask('/', { ...keepAlive, Cookie: cookie.split(';')[0] ?? '' })
      assert.deepEqual([again.backend, again.headers['set-cookie']], [backend, undefined])
    }
    seats.add(backend)
  }
  assert.equal(seats.size, 3)
})

test('requests go by a parameter of their query', async () => {
  await using resources = new AsyncDisposableStack()
  const { ask } = await createFixture(resources, { kind: 'query-parameter', name: 'id' })
  const { backend } = await ask('/a?id=7', keepAlive)
  for (const path of ['/a?id=7', '/b?x=1&id=7', '/?id=7#z']) assert.equal((await ask(path, keepAlive)).backend, backend)
})

test('when the backend of a key is gone another one answers, and always the same', async () => {
  await using resources = new AsyncDisposableStack()
  const { ask, backends, setBackends, warnings } = await createFixture(resources, header)
  const asAlice = () => ask('/', { ...keepAlive, 'x-user': 'alice' })
  const { backend } = await asAlice()
  const left = backends.filter((_, index) => ['one', 'two', 'three'][index] !== backend)
  setBackends(left)
  const next = (await asAlice()).backend
  assert.notEqual(next, backend)
  assert.equal((await asAlice()).backend, next)
  setBackends([])
  assert.equal((await asAlice()).status, 503)
  assert.equal(warnings.length, 1)
})

test('an idle client of a Service whose policy reads requests keeps nobody waiting (D-2)', async () => {
  await using resources = new AsyncDisposableStack()
  const { ask, dial } = await createFixture(resources, header)
  const idle = await Promise.all(Array.from({ length: 20 }, dial))
  for (const client of idle.slice(10)) client.write('GET / HTTP/1.1\r\nX-')
  const answers = await Promise.all([ask('/', { ...keepAlive, 'x-user': 'alice' })])
  assert.equal(answers[0].status, 200)
})

test('a request meets no backend twice, and none of its bytes is lost on the way to the next one (D-10)', async () => {
  await using resources = new AsyncDisposableStack()
  const { dial, backends, setBackends } = await createFixture(resources, header)
  const dead = { address: '127.0.0.1', port: 1 }
  const echo = createServer((incoming, response) => void text(incoming).then((body) => response.end(`<${body}>`)))
  const listener = resources.use(
    await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: (socket) => echo.emit('connection', socket) }),
  )
  setBackends([dead, { ...dead, port: 2 }, { address: listener.address, port: listener.port }])
  assert.ok(backends.length > 0)
  for (let user = 0; user < 6; user++) {
    const client = await dial()
    const head = `POST / HTTP/1.1\r\nHost: a\r\nX-User: ${user}\r\nContent-Length: 4\r\nConnection: close\r\n\r\n`
    client.write(`${head}body`)
    assert.match(await text(client), /<body>/)
  }
})

test('HTTP/2 with prior knowledge is carried as bytes', async () => {
  await using resources = new AsyncDisposableStack()
  const { dial, setBackends } = await createFixture(resources, header)
  const listener = resources.use(
    await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: (socket) => socket.pipe(socket) }),
  )
  setBackends([{ address: listener.address, port: listener.port }])
  const client = await dial()
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'
  // In three pieces, so that the first one does not tell it from a POST.
  for (const piece of [preface.slice(0, 1), preface.slice(1, 2), preface.slice(2)]) {
    client.write(piece)
    await new Promise(setImmediate)
  }
  client.end()
  assert.equal(await text(client), preface)
})
