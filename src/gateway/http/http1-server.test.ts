import assert from 'node:assert/strict'
import { afterEach, suite, test } from 'node:test'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'
import type { ByteStream } from '../../net/index.ts'
import { createMemoryStreamPair } from '../../net/index.ts'
import type { Exchange } from './exchange.ts'
import { HeaderFields } from './header-fields.ts'
import { Http1ServerConnection } from './http1-server.ts'

const client = { address: '192.0.2.1', port: 1, localAddress: '192.0.2.2', localPort: 80, isTls: false }
const limits = { maxHeadBytes: 1024, headTimeoutMs: 60_000, bodyTimeoutMs: 60_000, idleTimeoutMs: 60_000 }

interface Served {
  readonly far: ByteStream
  readonly exchanges: Exchange[]
  readonly refused: string[]
  readonly connection: Http1ServerConnection
  received(): string
}

const open: ByteStream[] = []
afterEach(() => {
  for (const stream of open.splice(0)) stream.destroy()
})

function serve(onExchange: (exchange: Exchange) => void = answerOk, shorter: Partial<typeof limits> = {}): Served {
  const [near, far] = createMemoryStreamPair()
  open.push(near)
  const exchanges: Exchange[] = []
  const refused: string[] = []
  let text = ''
  far.on('data', (chunk: Buffer) => {
    text += chunk.toString('latin1')
  })
  far.on('error', () => {})
  near.on('error', () => {})
  const connection = new Http1ServerConnection(near, {
    client,
    limits: { ...limits, ...shorter },
    onExchange(exchange) {
      exchanges.push(exchange)
      onExchange(exchange)
    },
    onRefused: ({ message }) => refused.push(message),
  })
  return { far, exchanges, refused, connection, received: () => text }
}

function answerOk(exchange: Exchange): void {
  exchange.respond(200, 'OK', HeaderFields.of({ 'x-target': exchange.request.target }), 2)
  exchange.write(Buffer.from('ok'))
  exchange.end()
}

/** Lets everything that is under way in memory arrive. */
async function settle(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await turn()
}

const get = (target: string, ...fields: readonly string[]) =>
  `GET ${target} HTTP/1.1\r\nHost: a\r\n${fields.join('')}\r\n`

suite('a connection of a client', () => {
  test('serves requests that were sent ahead one after the other, in order', async () => {
    const { far, received } = serve()
    far.write(get('/1') + get('/2') + get('/3'))
    await settle()
    assert.deepEqual(
      [...received().matchAll(/x-target: (\S+)/g)].map(([, target]) => target),
      ['/1', '/2', '/3'],
    )
  })

  test('is not touched any more once it has become a WebSocket', async () => {
    const upgraded: ByteStream[] = []
    const { far, connection, received } = serve((exchange) => {
      upgraded.push(exchange.upgrade('Switching', HeaderFields.of({ upgrade: 'websocket' })))
    })
    let isEnded = false
    far.on('end', () => {
      isEnded = true
    })
    far.write(get('/ws', 'Connection: Upgrade\r\n', 'Upgrade: websocket\r\n'))
    await settle()
    connection.drain()
    await settle()
    assert.equal(isEnded, false)
    upgraded[0]?.write('frame')
    await settle()
    assert.match(received(), / 101 [\s\S]*frame$/)
  })

  test('takes a head in any pieces, also with an empty line before it', async () => {
    const { far, exchanges } = serve()
    for (const byte of `\r\n${get('/slow')}`) {
      far.write(byte)
      await turn()
    }
    await settle()
    assert.equal(exchanges[0]?.request.target, '/slow')
  })

  test('answers what is no request, and ends', async () => {
    const { far, received, refused } = serve()
    far.write(`GET / HTTP/1.1\r\n\r\n${get('/smuggled')}`)
    await settle()
    assert.match(
      received(),
      /^HTTP\/1\.1 400 Bad Request\r\n[\s\S]*edgemesh gateway: 400 Bad Request: there is no Host field\n$/,
    )
    assert.deepEqual(refused, ['there is no Host field'])
  })

  test('tells a client at once that speaks something else', async () => {
    for (const bytes of ['\x16\x03\x01', ' GET', '\0', '\n']) {
      const { far, received } = serve()
      far.write(Buffer.from(bytes, 'latin1'))
      await settle()
      assert.match(received(), /^HTTP\/1\.1 400 [\s\S]*this is no HTTP/, JSON.stringify(bytes))
    }
  })

  test('refuses a head that is too long before it is complete', async () => {
    const { far, received } = serve()
    far.write(`GET / HTTP/1.1\r\nHost: a\r\nX: ${'a'.repeat(2000)}`)
    await settle()
    assert.match(received(), /^HTTP\/1\.1 431 /)
  })

  test('ends after the request that asks for it', async () => {
    const { far, received } = serve()
    far.write(get('/1', 'Connection: close\r\n') + get('/2'))
    await settle()
    assert.equal([...received().matchAll(/x-target/g)].length, 1)
    assert.match(received(), /connection: close\r\n/)
  })

  test('that drains ends when it is idle, or after the request under way', async () => {
    const idle = serve()
    idle.connection.drain()
    await settle()
    assert.ok(idle.far.readableEnded)
    const busy = serve(() => {})
    busy.far.write(get('/'))
    await settle()
    busy.connection.drain()
    await settle()
    assert.ok(!busy.far.readableEnded)
    for (const exchange of busy.exchanges) answerOk(exchange)
    await settle()
    assert.ok(busy.far.readableEnded)
  })

  test('delivers a body, and its trailers, to whoever listens late', async () => {
    const { far, exchanges } = serve(() => {})
    far.write('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n')
    await settle()
    let body = ''
    let trailers = ''
    exchanges[0]?.listen({
      onData: (chunk) => {
        body += chunk
      },
      onEnd: (fields) => {
        trailers = fields?.render() ?? ''
      },
      onGone: () => {},
      onDrain: () => {},
    })
    assert.deepEqual([body, trailers], ['abc', 'X-T: 1\r\n'])
  })

  test('tells a listener that the client went away, also one that comes later', async () => {
    for (const isLate of [false, true]) {
      const { far, exchanges } = serve(() => {})
      far.write(get('/'))
      await settle()
      let isGone = false
      const listen = () => {
        exchanges[0]?.listen({
          onData() {},
          onEnd() {},
          onDrain() {},
          onGone: () => {
            isGone = true
          },
        })
      }
      if (!isLate) listen()
      far.destroy()
      await settle()
      if (isLate) listen()
      assert.ok(isGone, `late: ${isLate}`)
    }
  })

  test('says that it ends when it leaves a body unread, and goes on when the rest is short', async () => {
    const refuse = (exchange: Exchange) => {
      exchange.discardBody()
      exchange.respond(404, 'Not Found', new HeaderFields(), 0)
      exchange.end()
    }
    const post = (...fields: readonly string[]) => `POST / HTTP/1.1\r\nHost: a\r\n${fields.join('\r\n')}\r\n\r\n`
    const cases: readonly (readonly [string, boolean])[] = [
      [`${post('Content-Length: 4')}body`, false],
      [post('Content-Length: 4'), false],
      [post('Content-Length: 70000'), true],
      [post('Transfer-Encoding: chunked'), true],
      [`${post('Transfer-Encoding: chunked')}0\r\n\r\n`, false],
      [post('Content-Length: 4', 'Expect: 100-continue'), true],
      [`${post('Content-Length: 4', 'Expect: 100-continue')}body`, false],
    ]
    for (const [request, ends] of cases) {
      const { far, received } = serve(refuse)
      far.write(request)
      await settle()
      assert.match(received(), /^HTTP\/1\.1 404 /)
      assert.deepEqual([received().includes('connection: close'), far.readableEnded], [ends, ends], request)
    }
  })

  test('goes on after a body that was asked for with 100 and not wanted in the end', async () => {
    const { far, received } = serve((exchange) => {
      exchange.informational(100, new HeaderFields())
      exchange.discardBody()
      exchange.respond(404, 'Not Found', new HeaderFields(), 0)
      exchange.end()
    })
    far.write('POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n')
    await settle()
    far.write(`body${get('/next')}`)
    await settle()
    assert.equal(received().split('404 Not Found').length, 3)
    assert.doesNotMatch(received(), /close/)
  })

  test('is cut in the middle of a body that is broken', async () => {
    const { far, received, refused } = serve(() => {})
    far.write('POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
    await settle()
    far.write('zz\r\n')
    await settle()
    assert.match(received(), /^HTTP\/1\.1 400 /)
    assert.deepEqual(refused.length > 0, true)
  })

  test('ends an answer of unknown length with a chunk, and gives trailers', async () => {
    const { far, received } = serve((exchange) => {
      exchange.respond(200, 'OK', new HeaderFields(), undefined)
      exchange.write(Buffer.from('abc'))
      exchange.end(HeaderFields.of({ 'x-t': '1' }))
    })
    far.write(get('/'))
    await settle()
    assert.equal(received(), 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n')
  })

  test('sends no body for HEAD, 204 and 304', async () => {
    const { far, received } = serve((exchange) => {
      exchange.respond(Number(exchange.request.target.slice(1)), '', new HeaderFields(), 5)
      exchange.write(Buffer.from('xxxxx'))
      exchange.end()
    })
    far.write(`HEAD /200 HTTP/1.1\r\nHost: a\r\n\r\n${get('/204')}${get('/304')}`)
    await settle()
    assert.ok(!received().includes('xxxxx'))
    assert.equal(received().split('\r\n\r\n').length, 4)
  })

  test('gives up a body of which nothing more comes, unless its answer has begun or nobody takes it', async () => {
    const post = 'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\npart'
    const limit = { bodyTimeoutMs: 20 }
    const slow = serve((exchange) => exchange.listen(ignoring(() => gone.push('slow'))), limit)
    const answered = serve((exchange) => exchange.respond(200, 'OK', new HeaderFields(), undefined), limit)
    const paused = serve((exchange) => exchange.pause(), limit)
    const gone: string[] = []
    for (const { far } of [slow, answered, paused]) far.write(post)
    while (!slow.far.readableEnded) await delay(10)
    assert.match(slow.received(), /^HTTP\/1\.1 408 [\s\S]*the body of the request did not arrive in time\n$/)
    assert.deepEqual(gone, ['slow'])
    await settle()
    for (const { far } of [answered, paused]) assert.equal(far.readableEnded || far.destroyed, false)
  })

  test('gives up a head of which nothing more comes, and a connection on which no request comes', async () => {
    const head = serve(answerOk, { headTimeoutMs: 300 })
    head.far.write('GET / HTTP/1.1\r\n')
    const idle = serve(answerOk, { idleTimeoutMs: 300 })
    idle.far.write(get('/'))
    while (!(head.far.readableEnded && idle.far.destroyed)) await delay(10)
    assert.match(head.received(), /^HTTP\/1\.1 408 /)
    assert.match(idle.received(), /^HTTP\/1\.1 200 /)
  })
})

function ignoring(onGone: () => void) {
  return { onData() {}, onEnd() {}, onDrain() {}, onGone }
}
