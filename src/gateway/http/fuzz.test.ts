import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { createMemoryStreamPair } from '../../net/index.ts'
import { repeatableRandom } from '../../runtime/repeatable-random.fixture.ts'
import type { Exchange } from './exchange.ts'
import { HeaderFields } from './header-fields.ts'
import { Http1ServerConnection } from './http1-server.ts'

/** More by hand: EDGEMESH_FUZZ_COUNT=1000000 node --test src/gateway/http/fuzz.test.ts */
const rounds = Number(process.env['EDGEMESH_FUZZ_COUNT'] ?? 3000)

const requests = [
  'GET /a HTTP/1.1\r\nHost: a\r\n\r\n',
  'POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello',
  'POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  'PUT /d?x=1 HTTP/1.1\r\nHost: a:80\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;e=f\r\nabc\r\n0\r\nX: y\r\n\r\n',
  'GET http://a/e HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n',
]
const fragments = [
  ...[
    '\r',
    '\n',
    '\r\n',
    '\r\n\r\n',
    '\0',
    ' ',
    '\t',
    ':',
    ',',
    ';',
    '/',
    '?',
    '#',
    '%00',
    '\xff',
    '-',
    '+',
    '0',
    '1',
    'a',
  ],
  ...['Content-Length: 4\r\n', 'Content-Length: 0\r\n', 'content-length : 3\r\n', 'Content-Length: 5, 5\r\n'],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Transfer-Encoding: xchunked\r\n',
    'Transfer-Encoding:\x0bchunked\r\n',
    'TE: x\r\n',
  ],
  ...['Host: b\r\n', ' folded\r\n', 'HTTP/1.0', 'HTTP/1.1', '0\r\n\r\n', 'GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n'],
]

function mutate(bytes: string, random: () => number): string {
  const at = Math.floor(random() * (bytes.length + 1))
  const length = random() < 0.5 ? 1 : Math.floor(random() * 12)
  const fragment = fragments[Math.floor(random() * fragments.length)] ?? ''
  switch (Math.floor(random() * 4)) {
    case 0:
      return bytes.slice(0, at) + fragment + bytes.slice(at)
    case 1:
      return bytes.slice(0, at) + bytes.slice(at + length)
    case 2:
      return bytes.slice(0, at) + fragment + bytes.slice(at + length)
    default: {
      const line = bytes.indexOf('\r\n', at) + 2
      return bytes.slice(0, line) + fragment + bytes.slice(line)
    }
  }
}

/** A request as both readers report it. */
type Reading = string

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
const headPattern = new RegExp(
  `^(?:\\r\\n)?(${token}) (/[\\x21\\x22\\x24-\\x7e]*|\\*|http://[\\x21\\x22\\x24-\\x7e]+) HTTP/1\\.1\\r\\n((?:${token}:[\\t\\x20-\\x7e\\x80-\\xff]*\\r\\n)*)\\r\\n`,
)
const chunkPattern = /^([0-9a-fA-F]{1,13})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?\r\n/
const trailersPattern = new RegExp(`^((?:${token}:[\\t\\x20-\\x7e\\x80-\\xff]*\\r\\n)*)\\r\\n`)

/** The requests that a reader finds who goes by the grammar of RFC 9112 alone, up to the first thing that is wrong. */
function readStrictly(bytes: string): Reading[] {
  const readings: Reading[] = []
  let rest = bytes
  for (;;) {
    const head = headPattern.exec(rest)
    if (head === null) return readings
    const [all, method = '', target = '', lines = ''] = head
    const fields = lines.split('\r\n').filter((line) => line !== '')
    const valuesOf = (name: string) =>
      fields
        .filter((line) => line.toLowerCase().startsWith(`${name}:`))
        .map((line) => line.slice(name.length + 1).trim())
    const lengths = valuesOf('content-length')
    const codings = valuesOf('transfer-encoding')
    if (valuesOf('host').length !== 1 || lengths.length + codings.length > 1 || method === 'CONNECT') return readings
    const body = readBody(rest.slice(all.length), lengths[0], codings[0])
    if (body === undefined) return readings
    readings.push(`${method} ${target} ${JSON.stringify(body.text)}`)
    if (
      valuesOf('connection')
        .join(',')
        .toLowerCase()
        .split(',')
        .some((word) => word.trim() === 'close')
    )
      return readings
    rest = body.rest
  }
}

function readBody(bytes: string, length: string | undefined, coding: string | undefined) {
  if (coding !== undefined) return coding.toLowerCase() === 'chunked' ? readChunks(bytes) : undefined
  if (length === undefined) return { text: '', rest: bytes }
  if (!/^\d{1,15}$/.test(length) || Number(length) > bytes.length) return undefined
  return { text: bytes.slice(0, Number(length)), rest: bytes.slice(Number(length)) }
}

function readChunks(bytes: string): { readonly text: string; readonly rest: string } | undefined {
  let text = ''
  let rest = bytes
  for (;;) {
    const size = chunkPattern.exec(rest)
    if (size === null) return undefined
    const length = Number.parseInt(size[1] ?? '', 16)
    rest = rest.slice(size[0].length)
    if (length === 0) {
      const trailers = trailersPattern.exec(rest)
      return trailers === null ? undefined : { text, rest: rest.slice(trailers[0].length) }
    }
    if (rest.slice(length, length + 2) !== '\r\n') return undefined
    text += rest.slice(0, length)
    rest = rest.slice(length + 2)
  }
}

/** The requests that the gateway finds, complete with their bodies. */
async function readAsGateway(bytes: string, pieceSize: number): Promise<Reading[]> {
  const [near, far] = createMemoryStreamPair()
  const readings: Reading[] = []
  for (const stream of [near, far]) stream.on('error', () => {})
  far.resume()
  new Http1ServerConnection(near, {
    client: { address: '192.0.2.1', port: 1, localAddress: '', localPort: 80, isTls: false },
    limits: { maxHeadBytes: 4096, headTimeoutMs: 60_000, bodyTimeoutMs: 60_000, idleTimeoutMs: 60_000 },
    onExchange: (exchange) => answer(exchange, readings),
    onRefused: () => {},
  })
  const all = Buffer.from(bytes, 'latin1')
  for (let at = 0; at < all.length; at += pieceSize) far.write(all.subarray(at, at + pieceSize))
  const turns = 8 + 2 * Math.ceil(all.length / pieceSize)
  for (let at = 0; at < turns; at++) await turn()
  near.destroy()
  far.destroy()
  return readings
}

function answer(exchange: Exchange, readings: Reading[]): void {
  let body = ''
  exchange.listen({
    onData(chunk) {
      body += chunk.toString('latin1')
    },
    onEnd() {
      const { method, target } = exchange.request
      readings.push(`${method} ${target} ${JSON.stringify(body)}`)
      exchange.respond(200, 'OK', new HeaderFields(), 0)
      exchange.end()
    },
    onGone() {},
    onDrain() {},
  })
}

/** Targets in absolute form lose their authority on the way; everything else must be the same. */
function comparable(reading: Reading): string {
  return reading.replace(/^(\S+) http:\/\/[^/?\s]*(\S*)/, (_, method: string, rest: string) => {
    return `${method} ${rest.startsWith('/') ? rest : `/${rest}`}`
  })
}

test(`no request is found that a strict reader would not find, in ${rounds} damaged connections`, async () => {
  const random = repeatableRandom(20_261_122)
  let found = 0
  for (let round = 0; round < rounds; round++) {
    let bytes = Array.from({ length: 1 + Math.floor(random() * 3) }, () => {
      return requests[Math.floor(random() * requests.length)] ?? ''
    }).join('')
    for (let times = Math.floor(random() * 4); times >= 0; times--) bytes = mutate(bytes, random)
    const pieceSize = random() < 0.7 ? bytes.length : 1 + Math.floor(random() * 40)
    const strict = readStrictly(bytes).map(comparable)
    const ours = (await readAsGateway(bytes, pieceSize)).map(comparable)
    assert.deepEqual(ours, strict.slice(0, ours.length), `round ${round}: ${JSON.stringify(bytes)}`)
    found += ours.length
  }
  // Much of the damage is harmless or comes late, so a reader that finds nothing would not be one.
  assert.ok(found > rounds / 4, `${found} requests`)
})
