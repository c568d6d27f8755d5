import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import type { ResponseHead } from './head.ts'
import { HeaderFields } from './header-fields.ts'
import { Http1UpstreamConnection } from './http1-upstream.ts'
import type { OutgoingRequest, UpstreamError, UpstreamListener } from './upstream.ts'

const get: OutgoingRequest = {
  method: 'GET',
  authority: 'a.test',
  target: '/x',
  headers: HeaderFields.of({ 'X-Kept': '1' }),
  body: { kind: 'none' },
  isUpgrade: false,
}
const ok = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'

class Notes implements UpstreamListener {
  readonly events: string[] = []
  stream: ByteStream | undefined

  onInformational(status: number): void {
    this.events.push(`interim ${status}`)
  }

  onHead({ status }: ResponseHead): void {
    this.events.push(`head ${status}`)
  }

  onData(chunk: Buffer): void {
    this.events.push(`data ${chunk}`)
  }

  onEnd(trailers: HeaderFields | undefined): void {
    this.events.push(trailers === undefined ? 'end' : `end ${trailers.render().trim()}`)
  }

  onUpgrade(_head: ResponseHead, stream: ByteStream): void {
    this.events.push('upgrade')
    this.stream = stream
  }

  onError({ failure, wasReused }: UpstreamError): void {
    this.events.push(`${failure}${wasReused ? ' of a kept connection' : ''}`)
  }

  onDrain(): void {}
}

function connectUpstream() {
  const [near, far] = createMemoryStreamPair()
  for (const stream of [near, far]) stream.on('error', () => {})
  let sent = ''
  far.on('data', (chunk: Buffer) => {
    sent += chunk.toString('latin1')
  })
  const owned: string[] = []
  const connection = new Http1UpstreamConnection(near, {
    onIdle: () => owned.push('idle'),
    onClosed: () => owned.push('closed'),
  })
  const send = (request: Partial<OutgoingRequest> = {}) => {
    const notes = new Notes()
    return { notes, request: connection.send({ ...get, ...request }, notes) }
  }
  return { connection, far, owned, send, sent: () => sent }
}

async function settle(): Promise<void> {
  for (let turns = 0; turns < 12; turns++) await turn()
}

suite('HTTP/1.1 to a backend', () => {
  const answers: readonly (readonly [string, string, readonly string[], string])[] = [
    ['a length', ok, ['head 200', 'data ok', 'end'], 'idle'],
    ['no body', 'HTTP/1.1 204 No\r\n\r\n', ['head 204', 'end'], 'idle'],
    [
      'chunks and trailers',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-T: 1\r\n\r\n',
      ['head 200', 'data ok', 'end X-T: 1'],
      'idle',
    ],
    [
      'an end that closes',
      'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
      ['head 200', 'end'],
      'closed',
    ],
    [
      'interim answers',
      `HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 E\r\n\r\n${ok}`,
      ['interim 100', 'interim 103', 'head 200', 'data ok', 'end'],
      'idle',
    ],
    ['more than was asked for', `${ok}HTTP/1.1 200 Smuggled\r\n\r\n`, ['head 200', 'data ok', 'end'], 'closed'],
    [
      'too many interim answers',
      'HTTP/1.1 102 Wait\r\n\r\n'.repeat(70),
      [...Array(64).fill('interim 102'), 'bad-answer'],
      'closed',
    ],
    ['no HTTP', 'SSH-2.0-x\r\n\r\n', ['bad-answer'], 'closed'],
    [
      'a broken chunk',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
      ['head 200', 'bad-answer'],
      'closed',
    ],
    ['a head without end', `HTTP/1.1 200 OK\r\nX: ${'x'.repeat(300_000)}`, ['bad-answer'], 'closed'],
  ]
  for (const [name, bytes, events, state] of answers) {
    for (const pieceSize of [bytes.length, 7]) {
      if (bytes.length / pieceSize > 3000) continue
      test(`reads ${name} in pieces of ${pieceSize === 7 ? 7 : 'any size'}`, async () => {
        const { far, owned, send } = connectUpstream()
        const { notes, request } = send()
        request.end()
        for (let at = 0; at < bytes.length; at += pieceSize)
          far.write(Buffer.from(bytes.slice(at, at + pieceSize), 'latin1'))
        for (let turns = 0; turns < 2 * Math.ceil(bytes.length / pieceSize); turns++) await turn()
        await settle()
        // Data may come in more pieces than one.
        const joined = notes.events.join(',').replace('data o,data k', 'data ok')
        assert.equal(joined, events.join(','))
        assert.deepEqual(owned, [state])
      })
    }
  }

  test('an answer without a length ends with its connection', async () => {
    const { far, owned, send } = connectUpstream()
    const { notes, request } = send()
    request.end()
    far.end('HTTP/1.1 200 OK\r\n\r\nall of it')
    await settle()
    assert.deepEqual(notes.events, ['head 200', 'data all of it', 'end'])
    assert.deepEqual(owned, ['closed'])
  })

  test('writes requests with their bodies', async () => {
    const { far, send, sent } = connectUpstream()
    const plain = send({ method: 'PUT', body: { kind: 'length', length: 4 } })
    plain.request.write(Buffer.from('body'))
    plain.request.end()
    far.write(ok)
    await settle()
    assert.equal(sent(), 'PUT /x HTTP/1.1\r\nhost: a.test\r\nX-Kept: 1\r\ncontent-length: 4\r\n\r\nbody')
    const chunked = send({ body: { kind: 'chunked' } })
    chunked.request.write(Buffer.from('hi'))
    chunked.request.end(HeaderFields.of({ 'x-t': '1' }))
    await settle()
    assert.ok(sent().endsWith('transfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx-t: 1\r\n\r\n'))
  })

  test('does not keep a connection whose request was answered before it was complete', async () => {
    const { far, owned, send } = connectUpstream()
    const { notes, request } = send({ method: 'POST', body: { kind: 'length', length: 100 } })
    request.write(Buffer.from('part'))
    far.write(ok)
    await settle()
    assert.deepEqual(notes.events, ['head 200', 'data ok', 'end'])
    assert.deepEqual(owned, ['closed'])
  })

  test('tells a connection that breaks before and within an answer, and one that was kept', async () => {
    const early = connectUpstream()
    const first = early.send()
    first.request.end()
    early.far.destroy()
    const late = connectUpstream()
    const second = late.send()
    second.request.end()
    late.far.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf')
    await settle()
    late.far.destroy()
    const kept = connectUpstream()
    kept.send().request.end()
    kept.far.write(ok)
    await settle()
    const third = kept.send()
    third.request.end()
    kept.far.destroy()
    await settle()
    assert.deepEqual(first.notes.events, ['reset-before-answer'])
    assert.deepEqual(second.notes.events, ['head 200', 'data half', 'reset'])
    assert.deepEqual(third.notes.events, ['reset-before-answer of a kept connection'])
  })

  test('is closed when a backend speaks without being asked', async () => {
    const { far, owned } = connectUpstream()
    far.write(ok)
    await settle()
    assert.deepEqual(owned, ['closed'])
  })

  test('tells nothing more of a request that was given up', async () => {
    const { far, owned, send } = connectUpstream()
    const { notes, request } = send()
    request.cancel()
    far.write(ok)
    await settle()
    assert.deepEqual([notes.events, owned], [[], ['closed']])
  })

  test('makes a key for a WebSocket that has none, and checks what is answered to it', async () => {
    for (const isRight of [true, false]) {
      const { far, send, sent } = connectUpstream()
      const { notes, request } = send({ isUpgrade: true })
      request.end()
      await settle()
      const key = /sec-websocket-key: (\S+)/.exec(sent())?.[1] ?? ''
      assert.equal(Buffer.from(key, 'base64').length, 16)
      const { createHash } = await import('node:crypto')
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
      far.write(`HTTP/1.1 101 Switch\r\nSec-WebSocket-Accept: ${isRight ? accept : 'x'}\r\n\r\nrest`)
      await settle()
      assert.deepEqual(notes.events, [isRight ? 'upgrade' : 'bad-answer'])
      if (isRight) assert.equal(String(notes.stream?.read()), 'rest')
    }
  })
})
