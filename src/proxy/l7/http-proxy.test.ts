/**
 * The proxy over loopback TCP, between raw clients and Node's own HTTP server as backend.
 *
 *     client (bytes) -> http proxy -> backend (node:http, or bytes)
 */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { buffer, text } from 'node:stream/consumers'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Backend } from '../../model/index.ts'
import {
  type ByteStream,
  createDirectDialer,
  DialError,
  resetStream,
  startTcpListener,
  type TcpSocket,
} from '../../net/index.ts'
import { NoBackendError } from '../l4/dial-first-reachable.ts'
import { answer, type HttpDecision, type HttpForward } from './decision.ts'
import { createHttpProxy, type HttpLimits } from './http-proxy.ts'
import { createUpstreamPool } from './upstream-pool.ts'

const direct = createDirectDialer()
const never = new AbortController().signal

interface Fixture {
  /** Decides by the path: `/name...` goes to the backend of that name. */
  readonly backends: Map<string, Backend>
  readonly changes: Partial<HttpForward>
  readonly dialled: string[]
  readonly failures: unknown[]
  decide: ((request: IncomingMessage) => HttpDecision) | undefined
  connect(): Promise<ByteStream>
  serve(name: string, listener: RequestListener): Promise<void>
  listen(name: string, onConnection: (socket: TcpSocket) => void): Promise<void>
  readonly proxy: ReturnType<typeof createHttpProxy>
  /** Of clients. */
  openConnections(): number
}

async function createFixture(resources: AsyncDisposableStack, limits: Partial<HttpLimits> = {}): Promise<Fixture> {
  const pool = resources.use(createUpstreamPool(direct))
  const fixture: Pick<Fixture, 'backends' | 'changes' | 'dialled' | 'failures' | 'decide'> = {
    backends: new Map(),
    changes: {},
    dialled: [],
    failures: [],
    decide: undefined,
  }
  const forwardTo = (name: string): HttpForward => ({
    kind: 'forward',
    async dial(signal) {
      const backend = fixture.backends.get(name)
      if (backend === undefined) throw new NoBackendError([])
      fixture.dialled.push(name)
      return pool.upstreamOf(await pool.dialer.dial({ protocol: 'tcp', ...backend }, signal))
    },
    ...fixture.changes,
  })
  const proxy = createHttpProxy({
    limits,
    decide: (request) => fixture.decide?.(request) ?? forwardTo(/^\/(\w*)/.exec(request.url ?? '')?.[1] ?? ''),
    onFailure: (_request, error) => fixture.failures.push(error),
  })
  resources.defer(() => proxy[Symbol.dispose]())
  let open = 0
  const front = resources.use(
    await startTcpListener({
      host: '127.0.0.1',
      port: 0,
      onConnection(socket) {
        open += 1
        socket.once('close', () => {
          open -= 1
        })
        proxy.accept(socket)
      },
    }),
  )
  const listen = async (name: string, onConnection: (socket: TcpSocket) => void) => {
    const { address, port } = resources.use(await startTcpListener({ host: '127.0.0.1', port: 0, onConnection }))
    fixture.backends.set(name, { address, port })
  }
  return Object.assign(fixture, {
    proxy,
    listen,
    openConnections: () => open,
    async connect() {
      const client = await direct.dial({ protocol: 'tcp', address: front.address, port: front.port }, never)
      resources.defer(() => void client.destroy())
      return client
    },
    async serve(name: string, listener: RequestListener) {
      const server = createServer(listener)
      await listen(name, (socket) => server.emit('connection', socket))
    },
  })
}

/** Reads until the text holds as many matches as wanted. */
async function readUntil(client: ByteStream, pattern: RegExp, times = 1): Promise<string> {
  let seen = ''
  const count = () => seen.match(new RegExp(pattern, 'g'))?.length ?? 0
  while (count() < times) {
    const chunk = client.read()
    if (chunk !== null) seen += chunk
    else if (client.readableEnded || client.destroyed) throw new Error(`the connection ended after: ${seen}`)
    else await Promise.race([once(client, 'readable'), once(client, 'end')])
  }
  return seen
}

/** Sends bytes on a new connection and returns all that comes until it is closed. */
async function talk(fixture: Fixture, bytes: string): Promise<string> {
  const client = await fixture.connect()
  client.write(bytes)
  return await text(client)
}

function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: web\r\n${more}\r\n`
}

const lastGet = (path: string, more = '') => get(path, `Connection: close\r\n${more}`)

function sayName(name: string): RequestListener {
  return (request, response) => response.end(`<${name} ${request.url}>`)
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'the condition never came true')
    await delay(2)
  }
}

test('each request of one connection goes its own way, and connections to backends are used again', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const sockets = new Map<string, Set<unknown>>()
  for (const name of ['one', 'two']) {
    sockets.set(name, new Set())
    await fixture.serve(name, (request, response) => {
      sockets.get(name)?.add(request.socket)
      response.end(`<${name}>`)
    })
  }
  const client = await fixture.connect()
  for (const name of ['one', 'two', 'one', 'two', 'two']) {
    client.write(get(`/${name}`))
    assert.match(await readUntil(client, /<\w+>/), new RegExp(`<${name}>`))
  }
  assert.deepEqual(
    [...sockets.values()].map((used) => used.size),
    [1, 1],
  )
})

test('pipelined requests are answered in order, whichever backend is slow', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('slow', (request, response) => void setTimeout(() => response.end(`<${request.url}>`), 30))
  await fixture.serve('fast', (request, response) => response.end(`<${request.url}>`))
  const answers = await talk(fixture, get('/slow/1') + get('/fast/2') + get('/slow/3') + lastGet('/fast/4'))
  assert.deepEqual(answers.match(/<.*?>/g), ['</slow/1>', '</fast/2>', '</slow/3>', '</fast/4>'])
})

test('fields go through in order and spelling, except those of one hop', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const seen = Promise.withResolvers<string[]>()
  await fixture.serve('web', (request, response) => {
    seen.resolve(request.rawHeaders)
    response.writeHead(203, 'Fine', ['X-One', '1', 'x-one', '2', 'Keep-Alive', 'timeout=9', 'Date', 'then'])
    response.end('ok')
  })
  const fields =
    'X-First: a\r\nx-first: b\r\nConnection: X-Hop, close\r\nX-Hop: gone\r\nTE: trailers\r\nUser-Agent: c\r\n'
  const answer = await talk(fixture, get('/web', fields))
  assert.deepEqual(await seen.promise, [
    ...['Host', 'web', 'X-First', 'a', 'x-first', 'b', 'User-Agent', 'c'],
    ...['Connection', 'keep-alive'],
  ])
  assert.equal(
    answer,
    'HTTP/1.1 203 Fine\r\nX-One: 1\r\nx-one: 2\r\nDate: then\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
  )
})

test('bodies in chunks go both ways with their trailers', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('web', (request, response) => {
    void text(request).then((body) => {
      response.writeHead(200, ['Trailer', 'X-Sum'])
      response.write(`${body}|`)
      response.addTrailers([['X-Sum', String(request.trailers['x-sum'])]])
      response.end(String(request.headers['transfer-encoding']))
    })
  })
  const chunks = '5\r\nhello\r\n6\r\n world\r\n0\r\nX-Sum: 42\r\n\r\n'
  const head = 'POST /web HTTP/1.1\r\nHost: web\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n'
  const client = await fixture.connect()
  client.write(head + chunks)
  const answered = await readUntil(client, /0\r\n.*\r\n\r\n/)
  assert.match(answered, /\r\n\r\nc\r\nhello world\|\r\n7\r\nchunked\r\n0\r\nX-Sum: 42\r\n\r\n$/)
})

test('a large body reaches a slow reader whole', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const block = Buffer.alloc(8 << 20, 'edgemesh')
  await fixture.serve('web', (request, response) => {
    void buffer(request).then((body) => response.writeHead(200, ['Content-Length', String(body.length)]).end(body))
  })
  const client = await fixture.connect()
  client.write(`POST /web HTTP/1.1\r\nHost: web\r\nConnection: close\r\nContent-Length: ${block.length}\r\n\r\n`)
  client.write(block)
  let bytes = 0
  for await (const chunk of client) {
    bytes += chunk.length
    if (bytes % 7 === 0) await new Promise(setImmediate)
  }
  assert.ok(bytes > block.length && bytes < block.length + 200, String(bytes))
})

test('requests and responses without a body have none, and say so as they did', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const lengths: (string | undefined)[] = []
  await fixture.serve('web', (request, response) => {
    lengths.push(request.headers['content-length'] ?? request.headers['transfer-encoding'])
    if (request.method === 'HEAD') response.setHeader('Content-Length', '77')
    response.statusCode = request.method === 'DELETE' ? 204 : 200
    response.end()
  })
  const bare = (method: string) => `${method} /web HTTP/1.1\r\nHost: web\r\n\r\n`
  const answers = await talk(fixture, bare('HEAD') + bare('DELETE') + bare('POST') + lastGet('/web'))
  assert.deepEqual(lengths, [undefined, undefined, '0', undefined])
  assert.match(answers, /^HTTP\/1.1 200 OK\r\nContent-Length: 77\r\n[^<]*?\r\n\r\nHTTP\/1.1 204 No Content\r\n/)
})

test('a client that waits for 100 Continue gets it from the backend, or the refusal instead', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const server = createServer((request, response) => void text(request).then((body) => response.end(`<${body}>`)))
  server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
    if (request.url === '/web/no') {
      response.writeHead(413, { Connection: 'close' }).end('<too large>')
      return
    }
    response.writeContinue()
    server.emit('request', request, response)
  })
  await fixture.listen('web', (socket) => server.emit('connection', socket))
  const head = (path: string) =>
    `POST ${path} HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n`
  const willing = await fixture.connect()
  willing.write(head('/web/yes'))
  assert.match(await readUntil(willing, /\r\n\r\n/), /^HTTP\/1.1 100 Continue\r\n/)
  willing.write('body')
  assert.match(await readUntil(willing, /<.*>/), /200 OK[\s\S]*<body>/)
  const refused = await fixture.connect()
  refused.write(head('/web/no'))
  assert.match(await readUntil(refused, /<.*>/), /^HTTP\/1.1 413 /)
})

test('a connection that changes its protocol is spliced, with what both sides sent early', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const server = createServer()
  server.on('upgrade', (request: IncomingMessage, socket: ByteStream, head: Buffer) => {
    socket.write(
      `HTTP/1.1 101 Go\r\nUpgrade: ${request.headers.upgrade}\r\nConnection: Upgrade\r\nX-Key: k\r\n\r\nearly:`,
    )
    socket.write(head)
    socket.pipe(socket)
  })
  await fixture.listen('web', (socket) => server.emit('connection', socket))
  const client = await fixture.connect()
  client.write(`${get('/web', 'Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n')}too early,`)
  const answered = await readUntil(client, /early,/)
  assert.match(
    answered,
    /^HTTP\/1.1 101 Go\r\nX-Key: k\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly:too early,$/,
  )
  for (const word of ['hello', 'again']) {
    client.write(`${word};`)
    assert.equal(await readUntil(client, /;/), `${word};`)
  }
  client.end('bye')
  assert.equal(await text(client), 'bye')
})

test('a backend that does not change the protocol has its answer passed on', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('web', (_request, response) => response.writeHead(426).end('<no>'))
  const answered = await talk(fixture, get('/web', 'Connection: Upgrade\r\nUpgrade: websocket\r\n'))
  assert.match(answered, /^HTTP\/1.1 426 [\s\S]*<no>/)
  const withBody = 'Connection: Upgrade\r\nUpgrade: x\r\nContent-Length: 3\r\n'
  assert.match(await talk(fixture, `${get('/web', withBody)}abc`), /^HTTP\/1.1 400 /)
})

for (const [what, bytes] of [
  [
    'two framings at once',
    'POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  ],
  ['two lengths', 'POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde'],
  ['a length with a sign', 'POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd'],
  ['an unknown transfer coding', 'POST /web HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n'],
  [
    'chunked before another coding',
    'POST /web HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n',
  ],
  ['a blank before the colon', 'POST /web HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd'],
  ['a line that continues the one before', 'GET /web HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n'],
  ['a bare line feed', 'GET /web HTTP/1.1\nHost: a\n\n'],
  ['a bare carriage return', 'GET /web HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n'],
  ['a zero byte in a value', 'GET /web HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n'],
  ['no host', 'GET /web HTTP/1.1\r\n\r\n'],
  ['an unknown method', 'EAT /web HTTP/1.1\r\nHost: a\r\n\r\n'],
  ['no HTTP at all', '\x16\x03\x01\x02\x00\x01\x00\x01'],
  [
    'a chunk without end',
    'POST /web HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n',
  ],
] as const) {
  test(`a request is refused with 400 and its connection closed: ${what}`, async () => {
    await using resources = new AsyncDisposableStack()
    const fixture = await createFixture(resources)
    const requests: string[] = []
    await fixture.serve('web', (request, response) => {
      void text(request).then(
        (body) => {
          requests.push(body)
          response.end('<answered>')
        },
        () => {},
      )
    })
    // A second request would be what an attacker smuggles.
    const answers = await talk(fixture, `${bytes}${lastGet('/web/smuggled')}`)
    assert.match(answers, /^HTTP\/1.1 400 Bad Request\r\n/)
    assert.ok(!answers.includes('<answered>'))
    assert.deepEqual(requests, [])
  })
}

test('a head that is too long is refused with 431', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources, { maxHeadBytes: 4_096 })
  await fixture.serve('web', sayName('web'))
  assert.match(await talk(fixture, get('/web', `X: ${'a'.repeat(5_000)}\r\n`)), /^HTTP\/1.1 431 /)
  assert.match(await talk(fixture, lastGet('/web', 'X: a\r\n'.repeat(400))), /<web \/web>/)
})

test('a client that does not finish its head in time is told so and closed, and blocks nobody', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources, { headTimeoutMs: 50 })
  await fixture.serve('web', sayName('web'))
  const idle = await fixture.connect()
  const slow = await fixture.connect()
  slow.write('GET /web HTTP/1.1\r\nHost')
  assert.match(await talk(fixture, lastGet('/web')), /<web \/web>/)
  assert.match(await text(slow), /^HTTP\/1.1 408 /)
  assert.match(await text(idle), /^HTTP\/1.1 408 /)
})

test('a client that pipelines more than it may is reset', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources, { maxPipelined: 4 })
  let asked = 0
  await fixture.serve('web', () => void asked++)
  const client = await fixture.connect()
  client.resume()
  const [error] = await Promise.all([once(client, 'error'), client.write(get('/web').repeat(6))])
  assert.equal((error[0] as NodeJS.ErrnoException).code, 'ECONNRESET')
  assert.ok(asked <= 1)
})

test('CONNECT is refused, and what the client sends after it keeps nothing open', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const client = await fixture.connect()
  client.write('CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\nhello')
  assert.match(await text(client), /^HTTP\/1.1 405 /)
  const closed = once(client, 'close')
  client.end('more')
  await closed
  await until(() => fixture.openConnections() === 0)
})

test('a backend that is lost in the middle of its response resets the client', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('web', (request, response) => {
    response.writeHead(200, ['Content-Length', '10'])
    response.write('half', () => resetStream(request.socket, new Error('on purpose')))
  })
  const client = await fixture.connect()
  client.write(get('/web'))
  await assert.rejects(text(client), /ECONNRESET/)
})

test('a client that goes away ends what the backend is doing for it', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const over = Promise.withResolvers<void>()
  const asked = Promise.withResolvers<void>()
  await fixture.serve('web', (request, response) => {
    request.socket.once('close', () => over.resolve())
    response.write('endless')
    asked.resolve()
  })
  const client = await fixture.connect()
  client.write(get('/web'))
  await asked.promise
  client.destroy()
  await over.promise
})

test('a request over a connection that the backend had just closed is sent again, if it may be', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  // Each connection serves one request, then closes without a word when the second one comes.
  let connections = 0
  await fixture.listen('web', (socket) => {
    connections += 1
    let requests = 0
    socket.on('data', () => {
      requests += 1
      if (requests === 1) socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n<ok>')
      else socket.destroy()
    })
  })
  const client = await fixture.connect()
  for (let count = 0; count < 3; count++) {
    client.write(get('/web'))
    assert.match(await readUntil(client, /<\w+>/), /<ok>/)
  }
  assert.equal(connections, 3)
  client.write('POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx')
  assert.match(await readUntil(client, /answered\n/), /^HTTP\/1.1 502 /)
  assert.equal(fixture.failures.length, 1)
})

test('what cannot be forwarded is answered with 503, 502 or 504', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.listen('rude', (socket) => socket.once('data', () => socket.destroy()))
  await fixture.serve('silent', () => {})
  Object.assign(fixture.changes, { timeoutMs: 50 })
  assert.match(await talk(fixture, lastGet('/nobody')), /^HTTP\/1.1 503 [\s\S]*no backend can be reached\n$/)
  assert.match(await talk(fixture, lastGet('/rude')), /^HTTP\/1.1 502 /)
  assert.match(await talk(fixture, lastGet('/silent')), /^HTTP\/1.1 504 /)
  assert.equal(fixture.failures.length, 3)
  fixture.backends.set('closed', { address: '127.0.0.1', port: 1 })
  assert.match(await talk(fixture, lastGet('/closed')), /^HTTP\/1.1 502 /)
  assert.ok(fixture.failures.at(-1) instanceof DialError)
})

test('the decision may answer itself, and change path and fields both ways', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('web', (request, response) => {
    response.setHeader('X-Seen', `${request.url} ${request.headers.host} ${request.headers['x-added']}`)
    response.end()
  })
  Object.assign(fixture.changes, {
    path: '/changed?q=1',
    requestHeaders: () => ['Host', 'other', 'X-Added', 'yes'],
    responseHeaders: (status: number, headers: readonly string[]) => [...headers, 'X-Status', String(status)],
  } satisfies Partial<HttpForward>)
  const changed = await talk(fixture, lastGet('/web'))
  assert.match(changed, /X-Seen: \/changed\?q=1 other yes\r\n[\s\S]*X-Status: 200\r\n/)
  fixture.decide = () => answer(404, 'not here', ['X-Why', 'gone'])
  const answered = await talk(fixture, lastGet('/web'))
  assert.match(answered, /^HTTP\/1.1 404 Not Found\r\n[\s\S]*X-Why: gone\r\n[\s\S]*\r\n\r\nnot here\n$/)
})

/** Heads that Node's parser takes and that Node itself would not write. */
const oddHeads = {
  'a status below 100': 'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n',
  'a reason with a control character': 'HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n',
  'another protocol, unasked': 'HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n',
}

for (const [what, head] of Object.entries(oddHeads)) {
  test(`a backend that answers with ${what} costs its clients that answer alone`, async () => {
    await using resources = new AsyncDisposableStack()
    const fixture = await createFixture(resources)
    await fixture.listen('odd', (socket) => socket.once('data', () => socket.write(head)))
    await fixture.serve('web', sayName('web'))
    const client = await fixture.connect()
    client.write(get('/odd'))
    assert.match(await readUntil(client, /answered\n/), /^HTTP\/1\.1 502 /)
    client.write(get('/web'))
    assert.match(await readUntil(client, /<.*>/), /<web \/web>/)
    if (head.includes('Upgrade')) return
    const upgrade = get('/odd', 'Connection: Upgrade\r\nUpgrade: websocket\r\n')
    assert.match(await talk(fixture, upgrade), /^HTTP\/1\.1 502 /)
  })
}

test('a client that goes away takes no idle connection of others with it', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const sockets = new Set<unknown>()
  const asked = Promise.withResolvers<void>()
  await fixture.serve('web', (request, response) => {
    if (request.url === '/web/never') return asked.resolve()
    sockets.add(request.socket)
    response.end(`<${request.url}>`)
  })
  const [stays, leaves] = [await fixture.connect(), await fixture.connect()]
  leaves.write(get('/web/never'))
  await asked.promise
  stays.write(get('/web/1'))
  await readUntil(stays, /<.*>/)
  leaves.destroy()
  await until(() => fixture.openConnections() === 1)
  stays.write(get('/web/2'))
  await readUntil(stays, /<.*>/)
  assert.equal(sockets.size, 1)
})

test('after an early response a client may finish its body, and the connection goes on', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  await fixture.serve('web', (request, response) => {
    if (request.method === 'POST') response.writeHead(413).end('<too large>')
    else response.end('<fine>')
  })
  const client = await fixture.connect()
  client.write('POST /web HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nstart')
  assert.match(await readUntil(client, /<.*>/), /413[\s\S]*<too large>/)
  client.write(Buffer.alloc(199_995))
  client.write(get('/web'))
  assert.match(await readUntil(client, /<.*>/), /<fine>/)
})

test('a request to change the protocol waits until the client has read the answer before it', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  // More than the kernel takes for a client that does not read.
  const long = 'x'.repeat(16 << 20)
  fixture.decide = ({ url }) => answer(url === '/long' ? 200 : 503, url === '/long' ? long : 'none')
  const client = await fixture.connect()
  client.write('GET /long HTTP/1.1\r\nHost: a\r\n\r\n')
  client.end('GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n')
  await once(client, 'finish')
  for (let turn = 0; turn < 50; turn++) await new Promise(setImmediate)
  const answers = await text(client)
  assert.deepEqual(answers.match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 200', 'HTTP/1.1 503'])
  assert.ok(answers.includes(long))
})

test('while draining each connection ends after the request that is under way', async () => {
  await using resources = new AsyncDisposableStack()
  const fixture = await createFixture(resources)
  const finish = Promise.withResolvers<void>()
  await fixture.serve('web', (request, response) => {
    if (request.url === '/web/slow') void finish.promise.then(() => response.end('<slow>'))
    else response.end('<quick>')
  })
  const [idle, busy] = [await fixture.connect(), await fixture.connect()]
  idle.write(get('/web'))
  await readUntil(idle, /<quick>/)
  busy.write(get('/web/slow'))
  await until(() => fixture.dialled.length === 2)
  fixture.proxy.drain()
  assert.equal(await text(idle), '')
  finish.resolve()
  assert.match(await readUntil(busy, /<slow>/), /<slow>/)
  busy.write(get('/web'))
  assert.match(await text(busy), /Connection: close[\s\S]*<quick>/)
})
