import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect, type OutgoingHttpHeaders } from 'node:http2'
import { type AddressInfo, connect as connectTcp, createServer, type Socket } from 'node:net'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createMemoryStreamPair } from '../../net/index.ts'
import type { Exchange, ExchangeListener } from './exchange.ts'
import { HeaderFields } from './header-fields.ts'
import { Http2ServerConnection } from './http2-server.ts'

interface Served extends Disposable {
  readonly connection: Http2ServerConnection
  readonly session: ClientHttp2Session
  readonly exchanges: Exchange[]
  ask(headers?: OutgoingHttpHeaders, options?: { readonly endStream?: boolean }): ClientHttp2Stream
}

function serve(onExchange: (exchange: Exchange) => void = answerOk, bodyTimeoutMs = 60_000): Served {
  const [near, far] = createMemoryStreamPair()
  for (const stream of [near, far]) stream.on('error', () => {})
  const exchanges: Exchange[] = []
  const connection = new Http2ServerConnection(near, {
    client: { address: '192.0.2.1', port: 1, localAddress: '10.0.0.1', localPort: 443, isTls: true },
    maxHeadBytes: 16_384,
    idleTimeoutMs: 60_000,
    bodyTimeoutMs,
    onExchange(exchange) {
      exchanges.push(exchange)
      onExchange(exchange)
    },
  })
  const session = connect('https://a.test', { createConnection: () => far })
  session.on('error', () => {})
  return {
    connection,
    session,
    exchanges,
    ask(headers = {}, options = {}) {
      const stream = session.request({ ':path': '/x', ...headers }, options)
      stream.on('error', () => {})
      return stream
    },
    [Symbol.dispose]() {
      session.destroy()
      near.destroy()
    },
  }
}

test('a connection is over when its client has ended it, and none of its requests is unanswered', async () => {
  const served = Promise.withResolvers<Socket>()
  const exchanges: Exchange[] = []
  await using resources = new AsyncDisposableStack()
  const server = resources.use(createServer({ allowHalfOpen: true }, served.resolve).listen(0, '127.0.0.1'))
  await once(server, 'listening')
  const client = connectTcp({ port: (server.address() as AddressInfo).port, host: '127.0.0.1', allowHalfOpen: true })
  const session = connect('http://a.test', { createConnection: () => client })
  const socket = await served.promise
  resources.defer(() => void [socket, client].map((end) => end.destroy()))
  new Http2ServerConnection(socket, {
    client: { address: '192.0.2.1', port: 1, localAddress: '10.0.0.1', localPort: 80, isTls: false },
    maxHeadBytes: 16_384,
    idleTimeoutMs: 60_000,
    bodyTimeoutMs: 60_000,
    onExchange: (exchange) => void exchanges.push(exchange),
  })
  const [first, second] = [session.request({ ':path': '/1' }), session.request({ ':path': '/2' })]
  await once(session, 'remoteSettings')
  while (exchanges.length < 2) await turn()
  const [one, two] = exchanges
  if (one !== undefined) answerOk(one)
  assert.equal((await answerOf(first)).body, 'ok')
  client.end()
  await turn()
  assert.equal(socket.destroyed, false)
  if (two !== undefined) answerOk(two)
  assert.equal((await answerOf(second)).body, 'ok')
  await once(socket, 'close')
})

function answerOk(exchange: Exchange): void {
  exchange.respond(200, 'OK', HeaderFields.of({ 'x-target': exchange.request.target, connection: 'close' }), 2)
  exchange.write(Buffer.from('ok'))
  exchange.end()
}

async function answerOf(stream: ClientHttp2Stream) {
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
  const chunks: Buffer[] = await Array.fromAsync(stream)
  return { status: headers[':status'], headers, body: Buffer.concat(chunks).toString() }
}

/** `once` would reject with the stream's error. */
function closed(stream: ClientHttp2Stream): Promise<void> {
  return new Promise((resolve) => stream.on('close', () => resolve()))
}

function collect(exchange: Exchange, onEnd: (body: string, trailers: HeaderFields | undefined) => void): void {
  let body = ''
  const listener: ExchangeListener = {
    onData: (chunk) => {
      body += chunk
    },
    onEnd: (trailers) => onEnd(body, trailers),
    onGone() {},
    onDrain() {},
  }
  exchange.listen(listener)
}

suite('a connection that speaks HTTP/2', () => {
  test('gives requests and takes answers, without fields of HTTP/1.1', async () => {
    using served = serve()
    const { status, headers, body } = await answerOf(served.ask())
    assert.deepEqual([status, headers['x-target'], headers['connection'], body], [200, '/x', undefined, 'ok'])
    assert.equal(headers['content-length'], '2')
    assert.equal(served.exchanges[0]?.hasBody, false)
  })

  test('leaves out what a backend says and HTTP/2 forbids', async () => {
    using site = serve((exchange) => {
      exchange.respond(200, 'OK', HeaderFields.of({ 'HTTP2-Settings': 'AAMAAABk', 'x-kept': '1' }), undefined)
      exchange.end(HeaderFields.of({ 'HTTP2-Settings': 'AAMAAABk' }))
    })
    const { status, headers } = await answerOf(site.ask())
    assert.deepEqual([status, headers['x-kept'], headers['http2-settings']], [200, '1', undefined])
  })

  test('delivers bodies and trailers in both directions', async () => {
    using served = serve((exchange) => {
      collect(exchange, (body, trailers) => {
        exchange.informational(103, HeaderFields.of({ link: '</a>' }))
        exchange.respond(200, '', new HeaderFields(), undefined)
        exchange.write(Buffer.from(`${body} ${trailers?.get('x-sum')}`))
        exchange.end(HeaderFields.of({ 'x-back': '2' }))
      })
    })
    const stream = served.session.request({ ':method': 'POST', ':path': '/' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '1' }))
    let early: unknown
    let trailers: Record<string, unknown> = {}
    stream.on('headers', (headers) => {
      early = headers[':status']
    })
    stream.on('trailers', (headers) => {
      trailers = headers
    })
    stream.write('he')
    stream.end('llo')
    assert.equal((await answerOf(stream)).body, 'hello 1')
    assert.deepEqual([early, trailers['x-back']], [103, '2'])
  })

  test('refuses what HTTP/1.1 would refuse, and goes on', async () => {
    using served = serve()
    const refused = served.ask({ ':path': '/a b' })
    await closed(refused)
    assert.equal(refused.rstCode, 1)
    assert.equal((await answerOf(served.ask())).status, 200)
    assert.equal(served.exchanges.length, 1)
  })

  test('gives its stream away for a WebSocket', async () => {
    using served = serve((exchange) => {
      const headers = HeaderFields.of({ 'sec-websocket-accept': 'x', upgrade: 'websocket', 'x-kept': '1' })
      const stream = exchange.upgrade('', headers)
      stream.on('data', (chunk: Buffer) => stream.write(`echo ${chunk}`))
    })
    await once(served.session, 'remoteSettings')
    const stream = served.ask({ ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'https' })
    const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
    assert.deepEqual([headers[':status'], headers['x-kept']], [200, '1'])
    assert.equal(headers['sec-websocket-accept'] ?? headers['upgrade'], undefined)
    stream.write('hi')
    const [chunk] = await once(stream, 'data')
    assert.equal(String(chunk), 'echo hi')
  })

  test('tells of clients that go away, and breaks answers off', async () => {
    const gone = Promise.withResolvers<void>()
    using served = serve((exchange) => {
      if (exchange.request.target === '/abort') exchange.abort()
      else exchange.listen({ onData() {}, onEnd() {}, onDrain() {}, onGone: () => gone.resolve() })
    })
    const stream = served.ask({}, { endStream: true })
    while (served.exchanges.length === 0) await new Promise(setImmediate)
    stream.close(8)
    await gone.promise
    const aborted = served.ask({ ':path': '/abort' })
    await closed(aborted)
    assert.equal(aborted.rstCode, 2)
  })

  test('never lets an answer that breaks off look complete', async () => {
    using served = serve((exchange) => {
      exchange.respond(200, '', new HeaderFields(), undefined)
      exchange.write(Buffer.from('half'))
      setImmediate(() => exchange.abort())
    })
    const stream = served.ask()
    let isComplete = false
    stream.on('end', () => {
      isComplete = stream.rstCode === 0
    })
    stream.resume()
    await closed(stream)
    assert.deepEqual([isComplete, stream.rstCode], [false, 2])
  })

  test('gives up a body of which nothing more comes, but never a call of gRPC', async () => {
    using served = serve((exchange) => collect(exchange, () => {}), 30)
    const call = served.ask({ ':method': 'POST', 'content-type': 'application/grpc' }, { endStream: false })
    const slow = served.ask({ ':method': 'POST' }, { endStream: false })
    slow.write('part')
    const { status, body } = await answerOf(slow)
    assert.equal(status, 408)
    assert.match(body, /the body of the request did not arrive in time/)
    assert.equal(call.closed, false)
  })

  test('stops a client that sends more than is taken, and lets it go on', async () => {
    let received = 0
    const held = Promise.withResolvers<Exchange>()
    using served = serve((exchange) => {
      exchange.listen({
        onData(chunk) {
          received += chunk.length
          exchange.pause()
          held.resolve(exchange)
        },
        onEnd: () => answerOk(exchange),
        onGone() {},
        onDrain() {},
      })
    })
    const size = 8_000_000
    const stream = served.ask({ ':method': 'POST' }, { endStream: false })
    stream.end(Buffer.alloc(size))
    const exchange = await held.promise
    for (let turns = 0; turns < 200; turns++) await new Promise(setImmediate)
    assert.ok(received < size / 2, `${received} bytes came past the pause`)
    const pump = setInterval(() => exchange.resume(), 0)
    assert.equal((await answerOf(stream)).status, 200)
    clearInterval(pump)
    assert.equal(received, size)
  })

  test('says when a client takes no more of an answer, and when it does again', async () => {
    const size = 6_000_000
    let waits = 0
    using served = serve((exchange) => {
      let sent = 0
      const send = () => {
        while (sent < size) {
          sent += 100_000
          if (!exchange.write(Buffer.alloc(100_000))) {
            waits += 1
            return
          }
        }
        exchange.end()
      }
      exchange.listen({ onData() {}, onEnd() {}, onGone() {}, onDrain: send })
      exchange.respond(200, 'OK', new HeaderFields(), size)
      send()
    })
    assert.equal((await answerOf(served.ask())).body.length, size)
    assert.ok(waits > 0)
  })

  test('tells whoever listens late that the client is gone', async () => {
    using served = serve(() => {})
    const stream = served.ask({}, { endStream: true })
    while (served.exchanges.length === 0) await new Promise(setImmediate)
    stream.close(8)
    await closed(stream)
    for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
    let gone = 0
    served.exchanges[0]?.listen({
      onData() {},
      onEnd() {},
      onDrain() {},
      onGone: () => {
        gone += 1
      },
    })
    assert.equal(gone, 1)
  })

  test('sends no body for HEAD, 204 and 304', async () => {
    using served = serve((exchange) => {
      exchange.respond(Number(exchange.request.target.slice(1)), '', new HeaderFields(), undefined)
      exchange.write(Buffer.from('xxxxx'))
      exchange.end()
    })
    for (const [method, status] of [
      ['HEAD', 200],
      ['GET', 204],
      ['GET', 304],
    ] as const) {
      const answer = await answerOf(served.ask({ ':method': method, ':path': `/${status}` }))
      assert.deepEqual([answer.status, answer.body], [status, ''])
    }
  })

  test('takes what a client still sends of a request that is answered already', async () => {
    using served = serve((exchange) => {
      exchange.discardBody()
      answerOk(exchange)
    })
    const stream = served.ask({ ':method': 'POST' }, { endStream: false })
    let body = ''
    stream.on('data', (chunk: Buffer) => {
      body += chunk
    })
    stream.write(Buffer.alloc(100_000))
    await once(stream, 'end')
    assert.equal(body, 'ok')
    stream.end(Buffer.alloc(100_000))
    await closed(stream)
    assert.equal(stream.rstCode, 0)
    assert.equal((await answerOf(served.ask())).status, 200)
  })

  test('joins fields that HTTP/2 allows once only, in answers and trailers', async () => {
    using served = serve((exchange) => {
      const headers = new HeaderFields()
      for (const name of ['content-type', 'date', 'x-many', 'set-cookie']) {
        for (const value of ['1', '2']) headers.add(name, name, value)
      }
      exchange.respond(200, 'OK', headers, undefined)
      const trailers = new HeaderFields()
      for (const value of ['1', '2']) trailers.add('etag', 'etag', value)
      exchange.end(trailers)
    })
    const stream = served.ask()
    const ended = once(stream, 'trailers')
    const { headers } = await answerOf(stream)
    assert.deepEqual(
      [headers['content-type'], headers['date'], headers['x-many'], headers['set-cookie']],
      ['1, 2', '1, 2', '1, 2', ['1', '2']],
    )
    const [trailers] = (await ended) as [Record<string, unknown>]
    assert.equal(trailers['etag'], '1, 2')
  })

  test('answers 502 for a status that HTTP does not have', async () => {
    using served = serve((exchange) => {
      exchange.respond(Number(exchange.request.target.slice(1)), '', new HeaderFields(), 0)
      exchange.end()
    })
    for (const [status, sent] of [
      ['599', 599],
      ['600', 502],
      ['999', 502],
    ] as const) {
      assert.equal((await answerOf(served.ask({ ':path': `/${status}` }))).status, sent)
    }
  })

  test('sends trailers after a body whose length it told', async () => {
    using served = serve((exchange) => {
      exchange.respond(200, 'OK', new HeaderFields(), 2)
      exchange.write(Buffer.from('ok'))
      exchange.end(HeaderFields.of({ 'grpc-status': '0' }))
    })
    const stream = served.ask()
    const ended = once(stream, 'trailers')
    const { headers, body } = await answerOf(stream)
    assert.deepEqual([headers['content-length'], body], ['2', 'ok'])
    const [trailers] = (await ended) as [Record<string, unknown>]
    assert.equal(trailers['grpc-status'], '0')
  })

  test('that drains finishes what is under way and ends', async () => {
    const held: Exchange[] = []
    using served = serve((exchange) => held.push(exchange))
    const stream = served.ask()
    while (held.length === 0) await new Promise(setImmediate)
    const closed = once(served.session, 'close')
    served.connection.drain()
    for (const exchange of held) answerOk(exchange)
    assert.equal((await answerOf(stream)).status, 200)
    await closed
  })
})
