import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type ByteStream, ignoreError, resetStream } from '../../net/index.ts'
import { NoBackendError } from '../l4/dial-first-reachable.ts'
import { answer, type DecideHttp, type HttpAnswer, type HttpForward } from './decision.ts'
import { exchange, hasBody, isRepeatable, UpstreamFailedError, UpstreamTimeoutError } from './exchange.ts'
import { endSoon, exchangeUpgrade, lastResponse } from './upgrade.ts'
import type { HttpUpstream } from './upstream-pool.ts'

/** Bounds of what one client may ask for. */
export interface HttpLimits {
  /** Until the head of a request is complete, counted from the connection or from its first byte; else 408. */
  readonly headTimeoutMs: number
  /** Longer heads are answered with 431. */
  readonly maxHeadBytes: number
  /** How long a connection may be quiet between two requests. */
  readonly idleTimeoutMs: number
  /** Requests that one connection may send before the first of them is answered. */
  readonly maxPipelined: number
}

/** Bounds that no ordinary client notices. */
export const usualHttpLimits: HttpLimits = {
  headTimeoutMs: 15_000,
  maxHeadBytes: 32_768,
  idleTimeoutMs: 75_000,
  maxPipelined: 256,
}

/** What the proxy needs. */
export interface HttpProxyOptions {
  readonly decide: DecideHttp
  readonly limits?: Partial<HttpLimits>
  /** Is told why a request was answered with 502, 503 or 504 by the proxy itself. */
  readonly onFailure?: (request: IncomingMessage, error: unknown) => void
}

/** Speaks HTTP/1.1 with clients whose connections are handed to it, and sends each request where it is decided. */
export interface HttpProxy extends Disposable {
  /** Takes a connection over. `head` is what was read from it already. */
  accept(client: ByteStream, head?: Buffer): void
  /** Ends each connection after the requests that are under way. */
  drain(): void
}

/**
 * Makes a proxy that listens nowhere itself. It parses strictly: a request that two parsers could frame in two ways is
 * refused with 400. Disposal leaves connections to whoever accepted them.
 */
export function createHttpProxy(options: HttpProxyOptions): HttpProxy {
  const limits = { ...usualHttpLimits, ...options.limits }
  const server = createStrictServer(limits)
  let isDraining = false
  const queues = new WeakMap<ByteStream, Queue>()
  server.on('request', (incoming, response) => {
    const queue = queueOf(queues, incoming.socket)
    if (queue.waiting >= limits.maxPipelined) {
      resetStream(incoming.socket, new Error('too many requests before the first answer'))
      return
    }
    if (isDraining) response.shouldKeepAlive = false
    queue.run(() => serve(incoming, response, options))
  })
  server.on('checkContinue', (incoming, response) => server.emit('request', incoming, response))
  server.on('upgrade', (incoming: IncomingMessage, socket, head) => {
    socket.on('error', ignoreError)
    queueOf(queues, incoming.socket).run(() => serveUpgrade(incoming, head, options))
  })
  server.on('connect', (_incoming, socket) => {
    socket.on('error', ignoreError)
    socket.write('HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n')
    endSoon(socket)
  })
  return {
    accept(client, head) {
      if (head !== undefined && head.length > 0) client.unshift(head)
      server.emit('connection', client)
      // Whoever read the head has stopped the stream after it.
      if (client.isPaused()) client.resume()
    },
    drain() {
      isDraining = true
      server.closeIdleConnections()
    },
    [Symbol.dispose]: () => void server.close(),
  }
}

function createStrictServer(limits: HttpLimits): Server {
  const server = createServer({
    headersTimeout: limits.headTimeoutMs,
    // Uploads may take as long as they take.
    requestTimeout: 0,
    keepAliveTimeout: limits.idleTimeoutMs,
    maxHeaderSize: limits.maxHeadBytes,
    connectionsCheckingInterval: Math.min(1_000, limits.headTimeoutMs),
    insecureHTTPParser: false,
    requireHostHeader: true,
  })
  // Fields beyond a number would silently be lost; the size of the head is bounded anyway.
  server.maxHeadersCount = 0
  // Node sets up the time limits of connections when a server begins to listen, which this one never does.
  server.emit('listening')
  return server
}

/** Requests of one connection, one after the other: a client that pipelines occupies one backend at a time. */
interface Queue {
  readonly waiting: number
  run(work: () => Promise<void>): void
}

function queueOf(queues: WeakMap<ByteStream, Queue>, socket: ByteStream): Queue {
  const known = queues.get(socket)
  if (known !== undefined) return known
  let last: Promise<void> = Promise.resolve()
  let waiting = 0
  const queue: Queue = {
    get waiting() {
      return waiting
    },
    run(work) {
      waiting += 1
      last = last
        .then(work)
        .catch((error: Error) => resetStream(socket, error))
        .finally(() => {
          waiting -= 1
        })
    },
  }
  queues.set(socket, queue)
  return queue
}

async function serve(incoming: IncomingMessage, response: ServerResponse, options: HttpProxyOptions): Promise<void> {
  try {
    const decision = await options.decide(incoming)
    if (decision.kind === 'answer') await sendAnswer(incoming, () => response, decision)
    else await forwarded(incoming, decision, (upstream) => exchange(incoming, response, upstream, decision))
  } catch (error) {
    await fail(incoming, () => response, error, options)
  }
}

async function serveUpgrade(incoming: IncomingMessage, head: Buffer, options: HttpProxyOptions): Promise<void> {
  try {
    const decision = hasBody(incoming)
      ? answer(400, 'a request to change the protocol may have no body')
      : await options.decide(incoming)
    if (decision.kind === 'answer') await sendAnswer(incoming, () => lastResponse(incoming), decision)
    else await forwarded(incoming, decision, (upstream) => exchangeUpgrade(incoming, head, upstream, decision))
  } catch (error) {
    await fail(incoming, () => lastResponse(incoming), error, options)
  }
}

/** Sends over a connection of the decision's choice, and once more when that one had been closed meanwhile. */
async function forwarded(
  incoming: IncomingMessage,
  decision: HttpForward,
  send: (upstream: HttpUpstream) => Promise<void>,
): Promise<void> {
  const { socket } = incoming
  const gone = new AbortController()
  const onGone = () => gone.abort(new Error('the client went away'))
  socket.once('close', onGone)
  if (socket.destroyed) onGone()
  try {
    await send(await decision.dial(gone.signal)).catch(async (error) => {
      const mayRepeat = error instanceof UpstreamFailedError && error.wasStale && isRepeatable(incoming)
      if (!mayRepeat) throw error
      await send(await decision.dial(gone.signal))
    })
  } finally {
    socket.off('close', onGone)
    decision.onEnd?.()
  }
}

async function fail(
  incoming: IncomingMessage,
  responseOf: () => ServerResponse,
  error: unknown,
  { onFailure }: HttpProxyOptions,
): Promise<void> {
  // When the client is gone that is the reason, and nobody is left to be told.
  if (incoming.socket.destroyed) return
  onFailure?.(incoming, error)
  await sendAnswer(incoming, responseOf, answerFor(error))
}

function answerFor(error: unknown): HttpAnswer {
  if (error instanceof NoBackendError) return answer(503, 'no backend can be reached')
  if (error instanceof UpstreamTimeoutError) return answer(504, 'the backend did not answer in time')
  return answer(502, 'the backend closed the connection before it answered')
}

/** Resolves when the answer is written or the client gone; the next one cannot begin before. */
function sendAnswer(
  { socket }: IncomingMessage,
  responseOf: () => ServerResponse,
  { status, headers = [], body = '' }: HttpAnswer,
): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) {
      resolve()
      return
    }
    const onEnd = () => {
      socket.off('close', onEnd)
      resolve()
    }
    socket.once('close', onEnd)
    const response = responseOf()
    response.once('finish', onEnd)
    const length = ['Content-Length', String(Buffer.byteLength(body))]
    response.writeHead(status, [...headers, ...length])
    response.end(body)
  })
}
