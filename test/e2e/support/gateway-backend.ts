/**
 * A backend that tells what it was asked: `gateway-backend.ts NAME PORT [KEY CERTIFICATE]`. PORT speaks HTTP/1.1 (and
 * WebSocket), PORT+1 HTTP/2 without TLS (and something like gRPC), PORT+2 bytes, PORT+3 TLS. What it answers is chosen
 * by the query: status, delay, early, trailers, twice, cut, large=BYTES, seen=PATH (how often it was asked for), and for
 * the first N requests of a path fail-first=N (with fail-status or 503) and reset-first=N; in HTTP/2 grpc-first=N with
 * grpc-status and refuse-first=N.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer as createHttp, type IncomingMessage, type ServerResponse } from 'node:http'
import { constants, createServer as createHttp2, type ServerHttp2Stream } from 'node:http2'
import { createServer as createTcp } from 'node:net'
import process from 'node:process'
import { createServer as createTls } from 'node:tls'

const [, , name = '', portText = '', keyFile, certificateFile] = process.argv
const port = Number(portText)
const failures = new Map<string, number>()
const asked = new Map<string, number>()

const http = createHttp((request, response) => void answer(request, response))
http.on('upgrade', (request, socket) => {
  const key = `${request.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`
  const accept = createHash('sha1').update(key).digest('base64')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  )
  // An echo of the frames, unmasked as a server's must be; that of the close frame is the last one.
  socket.on('data', (frames: Buffer) => {
    socket.write(unmasked(frames))
    if ((frames[0] ?? 0) === 0x88) socket.end()
  })
  socket.on('error', () => {})
})
http.on('checkContinue', (request, response) => {
  response.writeContinue()
  void answer(request, response)
})
http.listen(port, '0.0.0.0')

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { searchParams: query, pathname } = new URL(request.url ?? '', 'http://backend')
  asked.set(pathname, (asked.get(pathname) ?? 0) + 1)
  let length = 0
  try {
    for await (const chunk of request) length += (chunk as Buffer).length
  } catch {
    return
  }
  if (isAmongFirst(`reset ${pathname}`, query.get('reset-first'))) {
    request.socket.destroy()
    return
  }
  if (query.has('early')) response.writeEarlyHints({ link: '</style.css>; rel=preload' })
  if (query.has('delay')) await new Promise((resolve) => setTimeout(resolve, Number(query.get('delay'))))
  if (query.has('cut')) {
    response.writeHead(200, { 'content-length': '1000' })
    response.write('half')
    setTimeout(() => request.socket.destroy(), 50)
    return
  }
  if (query.has('large')) {
    response.setHeader('x-length', length)
    response.end(Buffer.alloc(Number(query.get('large')), 'abcdefghijk'))
    return
  }
  const seen = query.get('seen')
  const body = JSON.stringify({
    ...(seen !== null && { seen: asked.get(seen) ?? 0 }),
    backend: name,
    method: request.method,
    url: request.url,
    headers: request.headers,
    length,
    trailers: request.trailers,
  })
  response.statusCode = statusOf(request, query)
  response.setHeader('x-backend', name)
  response.setHeader('x-secret', 'internal')
  response.setHeader('set-cookie', ['a=1', 'b=2'])
  if (query.has('twice')) response.setHeader('etag', ['"1"', '"2"'])
  if (query.has('trailers')) {
    response.setHeader('trailer', 'x-checksum')
    response.write(body)
    response.addTrailers({ 'x-checksum': 'abc' })
    response.end()
  } else response.end(request.method === 'HEAD' ? undefined : body)
}

function statusOf(request: IncomingMessage, query: URLSearchParams): number {
  const { pathname } = new URL(request.url ?? '', 'http://backend')
  if (isAmongFirst(pathname, query.get('fail-first'))) return Number(query.get('fail-status') ?? 503)
  return Number(query.get('status') ?? 200)
}

/** Whether the request is one of the first so many of its path. */
function isAmongFirst(path: string, count: string | null): boolean {
  const failed = failures.get(path) ?? 0
  if (failed >= Number(count ?? 0)) return false
  failures.set(path, failed + 1)
  return true
}

/** Short frames of a client, of which several may come at once, as a server sends them. */
function unmasked(frames: Buffer): Buffer {
  const length = (frames[1] ?? 0) & 127
  const mask = frames.subarray(2, 6)
  const payload = frames.subarray(6, 6 + length).map((byte, at) => byte ^ (mask[at % 4] ?? 0))
  const rest = frames.subarray(6 + length)
  const first = Buffer.concat([Buffer.from([frames[0] ?? 0, length]), payload])
  return rest.length === 0 ? first : Buffer.concat([first, unmasked(rest)])
}

const http2 = createHttp2()
http2.on('stream', (stream: ServerHttp2Stream, headers) => {
  stream.on('error', () => {})
  const { searchParams: query, pathname } = new URL(headers[':path'] ?? '', 'http://backend')
  if (isAmongFirst(pathname, query.get('refuse-first'))) {
    stream.close(constants.NGHTTP2_REFUSED_STREAM)
    return
  }
  if (isAmongFirst(pathname, query.get('grpc-first'))) {
    const failure = { 'content-type': 'application/grpc', 'grpc-status': query.get('grpc-status') ?? '' }
    stream.respond({ ':status': 200, ...failure }, { endStream: true })
    return
  }
  stream.respond(
    { ':status': 200, 'content-type': 'application/grpc', 'x-backend': name, 'x-te': String(headers['te']) },
    { waitForTrailers: true },
  )
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0', 'grpc-message': 'fine' }))
  stream.on('data', (chunk: Buffer) => stream.write(chunk))
  stream.on('end', () => stream.end())
})
http2.listen(port + 1, '0.0.0.0')

createTcp((socket) => {
  socket.on('error', () => {})
  socket.write(`${name}\n`)
  socket.pipe(socket)
}).listen(port + 2, '0.0.0.0')

if (keyFile !== undefined && certificateFile !== undefined) {
  createTls({ key: readFileSync(keyFile), cert: readFileSync(certificateFile) }, (socket) => {
    socket.on('error', () => {})
    socket.end(`HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: ${name.length}\r\n\r\n${name}`)
  }).listen(port + 3, '0.0.0.0')
}
console.log('ready')
