/**
 * Bytes that are no request, or nearly one, against the proxy: whatever comes, it neither throws nor hangs, every
 * connection ends, and no backend sees a request that was not sent. `EDGEMESH_FUZZ_COUNT` says how many inputs; in CI a
 * thousand.
 */
import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type ByteStream, createMemoryStreamPair } from '../../net/index.ts'
import { repeatableRandom } from '../../runtime/repeatable-random.fixture.ts'
import { answer } from './decision.ts'
import { endToEndHeaders } from './headers.ts'
import { createHttpProxy } from './http-proxy.ts'
import { readPreface } from './preface.ts'
import { requestKeyOf } from './request-key.ts'

const inputs = Number(process.env['EDGEMESH_FUZZ_COUNT'] ?? 1_000)
const never = new AbortController().signal

const random = repeatableRandom(20_261_122)
const below = (limit: number) => Math.floor(random() * limit)
const oneOf = <T>(choices: readonly T[]): T => choices[below(choices.length)] as T

const pieces = [
  'GET / HTTP/1.1\r\n',
  'POST /a?b=c&d HTTP/1.1\r\n',
  'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  'HEAD http://a/ HTTP/1.0\r\n',
  'CONNECT a:1 HTTP/1.1\r\n',
  'Host: a\r\n',
  'Content-Length: 5\r\n',
  'Content-Length: 18446744073709551616\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Connection: Upgrade\r\nUpgrade: websocket\r\n',
  'Connection: close\r\n',
  'Expect: 100-continue\r\n',
  'Cookie: a=b; c; =; ;;user=\r\n',
  'X: \u0000\u007f\u00ff\r\n',
  '\r\n',
  '\n',
  '5\r\nhello\r\n0\r\n\r\n',
  'fffffffffffffffff\r\n',
  'hello',
  ' ',
  ':',
]

/** Pieces of requests in any order, with some bytes changed, doubled or lost. */
function makeInput(): Buffer {
  const bytes = Buffer.from(Array.from({ length: 1 + below(8) }, () => oneOf(pieces)).join(''), 'latin1')
  for (let changes = below(4); changes > 0; changes--) bytes[below(bytes.length)] = below(256)
  return bytes.subarray(0, random() < 0.2 ? below(bytes.length) : bytes.length)
}

function closed(stream: ByteStream): Promise<void> {
  return stream.closed ? Promise.resolve() : new Promise((resolve) => stream.once('close', () => resolve()))
}

/** All is in memory, so whatever happens to a connection happens within some turns of the event loop. */
async function manyTurns(): Promise<void> {
  for (let turn = 0; turn < 100; turn++) await new Promise(setImmediate)
}

test(`${inputs} inputs of any kind end in an answer or a reset`, async () => {
  const proxy = createHttpProxy({ decide: (request) => answer(200, String(request.method)) })
  let answered = 0
  for (let count = 0; count < inputs; ) {
    const batch = Array.from({ length: Math.min(500, inputs - count) }, async () => {
      const [client, downstream] = createMemoryStreamPair()
      const bytes: Buffer[] = []
      client.on('data', (chunk: Buffer) => bytes.push(chunk)).on('error', () => {})
      downstream.on('error', () => {})
      const input = makeInput()
      const split = below(input.length + 1)
      client.write(input.subarray(0, split))
      client.end(input.subarray(split))
      proxy.accept(downstream)
      // A request whose body never comes ends with its client.
      const ended = new Promise((resolve) => client.once('end', resolve).once('close', resolve))
      await Promise.race([ended, manyTurns()])
      client.destroy()
      const isStuck = await Promise.race([closed(downstream), delay(10_000, 'stuck', { ref: false })])
      assert.equal(isStuck, undefined, `the connection stays open after ${JSON.stringify(input.toString('latin1'))}`)
      if (bytes.length > 0) {
        answered += 1
        assert.match(Buffer.concat(bytes).toString('latin1'), /^HTTP\/1\.1 [1-5]\d\d /)
      }
    })
    await Promise.all(batch)
    count += batch.length
  }
  proxy[Symbol.dispose]()
  assert.ok(answered > inputs / 10, `only ${answered} of ${inputs} were answered`)
})

test(`${inputs * 5} heads are read for their key, fields and protocol without an error`, async () => {
  const text = () => makeInput().toString('latin1')
  const cookies = { kind: 'http-cookie', name: 'user', ttlMs: 1 } as const
  for (let count = 0; count < inputs * 5; count++) {
    const headers = { cookie: text(), 'x-user': oneOf([text(), undefined]) }
    const key = oneOf([
      cookies,
      { kind: 'query-parameter', name: oneOf(['b', '', text()]) },
      { kind: 'http-header', name: oneOf(['X-User', 'Cookie', text()]) },
    ] as const)
    const policy = { kind: 'consistent-hash', key, ring: { kind: 'ring' } } as const
    const found = requestKeyOf(policy, { headers, url: oneOf([text(), '/?b=%', '/?%=%&&=', '']) }, () => 'made')
    assert.ok(found.key === undefined || typeof found.key === 'string')
    const flat = Array.from({ length: below(10) }, () => oneOf(['Connection', 'connection', 'X', text()]))
    assert.equal(endToEndHeaders(flat).length % 2, 0)
  }
  for (let count = 0; count < inputs / 10; count++) {
    const [client, server] = createMemoryStreamPair()
    const input = makeInput()
    client.end(input)
    const preface = await readPreface(server, never)
    // Nothing is lost: what was read is the beginning of what was sent.
    if (preface !== undefined) assert.deepEqual(preface.head, input.subarray(0, preface.head.length))
    else assert.ok(input.length < 3)
  }
})
