/**
 * Clients that no command line tool is: `gateway-client.ts KIND ARGS`. Prints one line of JSON.
 *
 *     grpc ORIGIN HOST PATH TEXT...   messages of a call, and its trailers; https is not verified
 *     websocket ORIGIN HOST PATH      a WebSocket over HTTP/2: the status, and what comes back for a frame
 *     raw HOST PORT [MS]              what comes back for the bytes on standard input, until the end or a second of silence
 *     held HOST PORT SECONDS          asks ten times a second on one connection; how many answers, and whether it closed
 *     steady ORIGIN RATE SECONDS      asks at a rate over kept connections; statuses and errors
 */
import { once } from 'node:events'
import { Agent, request as httpRequest } from 'node:http'
import { connect as connectHttp2 } from 'node:http2'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { connect } from 'node:net'
import process from 'node:process'
import { text } from 'node:stream/consumers'

const [, , kind, ...args] = process.argv
const clients: Readonly<Record<string, () => Promise<unknown>>> = { grpc, websocket, raw, held, steady }
console.log(JSON.stringify(await clients[kind ?? '']?.()))
process.exit(0)

async function grpc(): Promise<unknown> {
  const [origin = '', host = '', path = '', ...messages] = args
  const session = connectHttp2(origin, { rejectUnauthorized: false, servername: host })
  session.on('error', () => {})
  const stream = session.request({
    ':method': 'POST',
    ':authority': host,
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  let status: unknown
  let headers: unknown
  let trailers: unknown
  stream.on('response', (received) => {
    status = received[':status']
    headers = { ...received }
  })
  stream.on('trailers', (received) => {
    trailers = { ...received }
  })
  stream.on('error', () => {})
  const ended = text(stream).catch((error: unknown) => String(error))
  // One after the other, so that streaming both ways is seen.
  for (const message of messages) {
    stream.write(message)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  stream.end()
  const body = await ended
  return { status, headers, trailers, body }
}

async function websocket(): Promise<unknown> {
  const [origin = '', host = '', path = ''] = args
  const session = connectHttp2(origin, { rejectUnauthorized: false, servername: host })
  const [settings] = (await once(session, 'remoteSettings')) as [{ readonly enableConnectProtocol?: boolean }]
  const stream = session.request({
    ':method': 'CONNECT',
    ':protocol': 'websocket',
    ':scheme': new URL(origin).protocol.slice(0, -1),
    ':authority': host,
    ':path': path,
    'sec-websocket-version': '13',
  })
  const [headers] = (await once(stream, 'response')) as [Record<string, unknown>]
  const chunks: Buffer[] = []
  stream.on('data', (chunk: Buffer) => chunks.push(chunk))
  stream.write(Buffer.from([0x81, 0x85, 0, 0, 0, 0, ...Buffer.from('hello')]))
  await new Promise((resolve) => {
    stream.on('data', resolve)
    stream.on('end', resolve)
  })
  stream.end()
  const offered = settings.enableConnectProtocol
  return { offered, headers: { ...headers }, received: Buffer.concat(chunks).toString('latin1') }
}

async function raw(): Promise<unknown> {
  const [host = '', port = '', silenceMs = '1000'] = args
  const bytes = await new Promise<Buffer>((resolve) => {
    const chunks: Buffer[] = []
    process.stdin.on('data', (chunk: Buffer) => chunks.push(chunk))
    process.stdin.on('end', () => resolve(Buffer.concat(chunks)))
  })
  const socket = connect(Number(port), host)
  socket.write(bytes)
  return await new Promise((resolve) => {
    let received = ''
    let silence: NodeJS.Timeout | undefined
    const settle = (isClosed: boolean) => resolve({ received, isClosed })
    const listen = () => {
      clearTimeout(silence)
      silence = setTimeout(() => settle(false), Number(silenceMs))
    }
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
      listen()
    })
    socket.on('close', () => settle(true))
    socket.on('error', () => {})
    listen()
  })
}

async function held(): Promise<unknown> {
  const [host = '', port = '', seconds = ''] = args
  const socket = connect(Number(port), host)
  let answers = 0
  let isClosed = false
  socket.on('data', (chunk: Buffer) => {
    answers += chunk.toString('latin1').split('HTTP/1.1 200').length - 1
  })
  socket.on('close', () => {
    isClosed = true
  })
  socket.on('error', () => {})
  for (let asked = 0; asked < Number(seconds) * 10; asked++) {
    socket.write('GET /held HTTP/1.1\r\nHost: a.test\r\n\r\n')
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return { answers, isClosed }
}

async function steady(): Promise<unknown> {
  const [origin = '', rate = '', seconds = ''] = args
  const isTls = origin.startsWith('https:')
  const agent = isTls
    ? new HttpsAgent({ keepAlive: true, rejectUnauthorized: false, maxSockets: 64 })
    : new Agent({ keepAlive: true, maxSockets: 64 })
  const ask = isTls ? httpsRequest : httpRequest
  const statuses: Record<string, number> = {}
  const backends = new Set<string>()
  const count = (what: string) => {
    statuses[what] = (statuses[what] ?? 0) + 1
  }
  const pending = new Set<Promise<void>>()
  const one = () =>
    new Promise<void>((resolve) => {
      const request = ask(`${origin}/steady`, { agent }, (response) => {
        response.resume()
        response.on('end', () => {
          backends.add(String(response.headers['x-backend']))
          count(String(response.statusCode))
          resolve()
        })
        response.on('error', (error) => {
          count(error.message)
          resolve()
        })
      })
      request.on('error', (error) => {
        // A client's own race: a kept connection that the server closes in order just when it is used again.
        count(error.message)
        resolve()
      })
      request.end()
    })
  const total = Number(rate) * Number(seconds)
  const startedAt = performance.now()
  for (let sent = 0; sent < total; ) {
    const due = Math.min(total, Math.floor(((performance.now() - startedAt) / 1000) * Number(rate)))
    for (; sent < due; sent++) {
      const asked = one()
      pending.add(asked)
      void asked.then(() => pending.delete(asked))
    }
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await Promise.all(pending)
  return { statuses, backends: [...backends].sort() }
}
