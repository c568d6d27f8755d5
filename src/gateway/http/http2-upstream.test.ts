import assert from 'node:assert/strict'
import { performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { suite, test } from 'node:test'
import { createMemoryStreamPair } from '../../net/index.ts'
import { HeaderFields } from './header-fields.ts'
import { Http2UpstreamConnection } from './http2-upstream.ts'
import type { OutgoingRequest, UpstreamError, UpstreamListener } from './upstream.ts'

const request: OutgoingRequest = {
  method: 'POST',
  authority: 'a.test',
  target: '/call',
  headers: HeaderFields.of({ 'X-Kept': '1', Connection: 'close', te: 'trailers' }),
  body: { kind: 'chunked' },
  isUpgrade: false,
}

/** Notes what a backend answers. */
class Notes implements UpstreamListener {
  readonly events: string[] = []
  readonly done = Promise.withResolvers<void>()
  error: UpstreamError | undefined

  onInformational(status: number): void {
    this.events.push(`interim ${status}`)
  }

  onHead({ status, headers, body }: Parameters<UpstreamListener['onHead']>[0]): void {
    this.events.push(`head ${status} ${headers.get('x-answer')} ${body.kind}`)
  }

  onData(chunk: Buffer): void {
    this.events.push(`data ${chunk}`)
  }

  onEnd(trailers: HeaderFields | undefined): void {
    this.events.push(`end ${trailers?.get('grpc-status')}`)
    this.done.resolve()
  }

  onError(error: UpstreamError): void {
    this.error = error
    this.done.resolve()
  }

  onUpgrade(): void {}
  onDrain(): void {}
}

type Answer = (stream: ServerHttp2Stream, headers: Record<string, unknown>) => void

function connectTo(answer: Answer, mostRequests?: number) {
  const [near, far] = createMemoryStreamPair()
  for (const stream of [near, far]) stream.on('error', () => {})
  const session: ServerHttp2Session = performServerHandshake(far)
  session.on('error', () => {})
  session.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    answer(stream, headers as Record<string, unknown>)
  })
  const closed = Promise.withResolvers<void>()
  const connection = new Http2UpstreamConnection(near, () => closed.resolve(), mostRequests)
  return {
    connection,
    session,
    closed: closed.promise,
    [Symbol.dispose]() {
      connection.close()
      session.destroy()
    },
  }
}

suite('HTTP/2 to a backend', () => {
  test('carries request, answer and trailers, without fields of HTTP/1.1', async () => {
    let seen: Record<string, unknown> = {}
    let body = ''
    using site = connectTo((stream, headers) => {
      seen = headers
      stream.on('data', (chunk) => {
        body += chunk
      })
      stream.on('end', () => {
        stream.additionalHeaders({ ':status': 103 })
        stream.respond({ ':status': 200, 'x-answer': 'yes' }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
        stream.end('answer')
      })
    })
    const notes = new Notes()
    const sent = site.connection.send(request, notes)
    sent.write(Buffer.from('hello'))
    sent.end(HeaderFields.of({ 'x-sum': '1' }))
    await notes.done.promise
    assert.deepEqual(notes.events, ['interim 103', 'head 200 yes chunked', 'data answer', 'end 0'])
    const { ':method': method, ':path': path, ':authority': authority, te, 'x-kept': kept, connection } = seen
    assert.deepEqual(
      [method, path, authority, te, kept, connection],
      ['POST', '/call', 'a.test', 'trailers', '1', undefined],
    )
    assert.equal(body, 'hello')
  })

  test('sends no field that HTTP/2 forbids, whoever wrote it', async () => {
    let seen: Record<string, unknown> = {}
    using site = connectTo((stream, headers) => {
      seen = headers
      stream.respond({ ':status': 204 }, { endStream: true })
    })
    const headers = HeaderFields.of({ 'HTTP2-Settings': 'AAMAAABk', te: 'trailers', 'x-kept': '1' })
    headers.add('te', 'te', 'trailers')
    const notes = new Notes()
    site.connection.send({ ...request, headers, body: { kind: 'none' } }, notes)
    await notes.done.promise
    assert.deepEqual([seen['http2-settings'], seen['te'], seen['x-kept']], [undefined, 'trailers', '1'])
  })

  test('makes room for another connection before its numbers run out', async () => {
    using site = connectTo((stream) => stream.respond({ ':status': 204 }, { endStream: true }), 2)
    for (const isUsableAfter of [true, false]) {
      const notes = new Notes()
      site.connection.send({ ...request, body: { kind: 'none' } }, notes)
      assert.equal(site.connection.isUsable, isUsableAfter)
      await notes.done.promise
      assert.equal(notes.error, undefined)
    }
    await site.closed
  })

  test('carries many requests at a time', async () => {
    using site = connectTo((stream, headers) => {
      stream.respond({ ':status': 200, 'content-length': 1, 'x-answer': String(headers[':path']) })
      stream.end('x')
    })
    const all = Array.from({ length: 20 }, (_, index) => {
      const notes = new Notes()
      site.connection.send({ ...request, target: `/${index}`, body: { kind: 'none' } }, notes)
      return notes
    })
    await Promise.all(all.map(({ done }) => done.promise))
    assert.deepEqual(
      all.map(({ events }) => events[0]),
      all.map((_, index) => `head 200 /${index} length`),
    )
  })

  for (const [code, isAnswered, failure] of [
    [7, false, 'refused'],
    [2, false, 'reset-before-answer'],
    [2, true, 'reset'],
  ] as const) {
    test(`tells a stream that ends with code ${code} ${isAnswered ? 'within' : 'before'} its answer`, async () => {
      using site = connectTo((stream) => {
        if (isAnswered) {
          stream.respond({ ':status': 200 })
          stream.write('half', () => stream.session?.destroy())
        } else stream.close(code)
      })
      const notes = new Notes()
      site.connection.send(request, notes).end()
      await notes.done.promise
      assert.equal(notes.error?.failure, failure)
    })
  }

  test('joins fields that HTTP/2 allows once only', async () => {
    let seen: Record<string, unknown> = {}
    using site = connectTo((stream, headers) => {
      seen = headers
      stream.respond({ ':status': 200 }, { endStream: true })
    })
    const headers = new HeaderFields()
    for (const name of ['user-agent', 'x-many', 'cookie']) {
      for (const value of ['a=1', 'b=2']) headers.add(name, name, value)
    }
    headers.add('constructor', 'constructor', 'x')
    const notes = new Notes()
    site.connection.send({ ...request, headers, body: { kind: 'none' } }, notes)
    await notes.done.promise
    const values = ['user-agent', 'x-many', 'cookie', 'constructor'].map((name) => seen[name])
    assert.deepEqual(values, ['a=1, b=2', 'a=1, b=2', 'a=1; b=2', 'x'])
  })

  test('tells of a connection that was lost before the request was sent', async () => {
    using site = connectTo(() => {})
    site.connection.close()
    const notes = new Notes()
    const sent = site.connection.send(request, notes)
    sent.write(Buffer.from('body'))
    sent.end()
    sent.cancel()
    const told = new Notes()
    site.connection.send(request, told)
    await told.done.promise
    assert.equal(told.error?.failure, 'refused')
    assert.deepEqual([notes.events, notes.error], [[], undefined])
  })

  test('sends trailers after a body whose length it told, and takes them', async () => {
    let sum: unknown
    using site = connectTo((stream) => {
      stream.on('trailers', (trailers) => {
        sum = trailers['x-sum']
      })
      stream.resume()
      stream.on('end', () => {
        stream.respond({ ':status': 200, 'content-length': 2 }, { waitForTrailers: true })
        stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
        stream.end('ok')
      })
    })
    const notes = new Notes()
    const sent = site.connection.send({ ...request, body: { kind: 'length', length: 2 } }, notes)
    sent.write(Buffer.from('hi'))
    sent.end(HeaderFields.of({ 'x-sum': '1' }))
    await notes.done.promise
    assert.deepEqual([notes.events.at(-1), sum], ['end 0', '1'])
  })

  test('pauses an answer, and goes on with it', async () => {
    const size = 8_000_000
    using site = connectTo((stream) => {
      stream.respond({ ':status': 200 })
      stream.end(Buffer.alloc(size))
    })
    const notes = new Notes()
    let received = 0
    const first = Promise.withResolvers<void>()
    notes.onData = (chunk) => {
      received += chunk.length
      sent.pause()
      first.resolve()
    }
    const sent = site.connection.send({ ...request, body: { kind: 'none' } }, notes)
    await first.promise
    for (let turns = 0; turns < 200; turns++) await new Promise(setImmediate)
    assert.ok(received < size / 2, `${received} bytes came past the pause`)
    const pump = setInterval(() => sent.resume(), 0)
    await notes.done.promise
    clearInterval(pump)
    assert.equal(received, size)
  })

  test('asks to wait when the backend takes no more of a request', async () => {
    let stream: ServerHttp2Stream | undefined
    using site = connectTo((opened) => {
      stream = opened
    })
    const notes = new Notes()
    const drained = Promise.withResolvers<void>()
    notes.onDrain = () => drained.resolve()
    const sent = site.connection.send(request, notes)
    let hasRoom = true
    for (let chunks = 0; chunks < 100 && hasRoom; chunks++) hasRoom = sent.write(Buffer.alloc(65_536))
    assert.equal(hasRoom, false)
    while (stream === undefined) await new Promise(setImmediate)
    stream.resume()
    await drained.promise
    sent.cancel()
  })

  test('that drains finishes its requests and closes', async () => {
    const asked = Promise.withResolvers<ServerHttp2Stream>()
    using site = connectTo((stream) => asked.resolve(stream))
    const notes = new Notes()
    site.connection.send({ ...request, body: { kind: 'none' } }, notes)
    const stream = await asked.promise
    site.connection.drain()
    assert.equal(site.connection.isUsable, false)
    stream.respond({ ':status': 200, 'x-answer': 'late' }, { endStream: true })
    await notes.done.promise
    assert.equal(notes.events[0], 'head 200 late chunked')
    await site.closed
  })

  test('takes no new requests once the backend said goodbye', async () => {
    using site = connectTo((stream) => stream.respond({ ':status': 200 }, { endStream: true }))
    const notes = new Notes()
    site.connection.send({ ...request, body: { kind: 'none' } }, notes)
    await notes.done.promise
    assert.equal(site.connection.isUsable, true)
    site.session.close()
    await site.closed
    assert.equal(site.connection.isUsable, false)
  })

  test('tells nothing more of a request that was given up', async () => {
    const cancelled = Promise.withResolvers<number>()
    using site = connectTo((stream) => stream.on('close', () => cancelled.resolve(stream.rstCode)))
    const notes = new Notes()
    const sent = site.connection.send(request, notes)
    await new Promise(setImmediate)
    sent.cancel()
    assert.equal(await cancelled.promise, 8)
    assert.deepEqual([notes.events, notes.error], [[], undefined])
  })
})
