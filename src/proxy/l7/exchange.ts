import { type ClientRequest, request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http'
import { ignoreError, resetStream } from '../../net/index.ts'
import type { HttpForward } from './decision.ts'
import { endToEndHeaders, fieldsOf, hasHeader } from './headers.ts'
import type { HttpUpstream } from './upstream-pool.ts'

/** The backend failed before it answered; nothing was sent to the client. */
export class UpstreamFailedError extends Error {
  override readonly name = 'UpstreamFailedError'
  readonly code = 'EDGEMESH_UPSTREAM_FAILED'
  /** Nothing of a response came over a connection that had been idle, as when the backend was just closing it. */
  readonly wasStale: boolean

  constructor(wasStale: boolean, options: ErrorOptions) {
    super('The backend closed the connection before it answered', options)
    this.wasStale = wasStale
  }
}

/** The backend took longer than it may until its response began. */
export class UpstreamTimeoutError extends Error {
  override readonly name = 'UpstreamTimeoutError'
  readonly code = 'EDGEMESH_UPSTREAM_TIMEOUT'
}

/** A client may go on sending a body that nobody wants for this long after its response. */
const lingerMs = 5_000

/**
 * Sends the request over the connection and copies the response to the client, both with backpressure. Resolves when
 * the exchange is over, also when either side broke it off in the middle (the other one is reset then); rejects when
 * the backend failed before its response began.
 */
export function exchange(
  incoming: IncomingMessage,
  response: ServerResponse,
  upstream: HttpUpstream,
  forward: HttpForward,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const outgoing = openRequest(incoming, upstream, forward, requestHeaders(incoming, forward))
    const onClientGone = () => {
      if (response.writableFinished) return
      outgoing.off('error', onFailure)
      outgoing.on('error', ignoreError)
      outgoing.destroy(new Error('the client went away'))
      clearTimeout(timer)
      resolve()
    }
    const timer = startTimer(forward.timeoutMs, () => outgoing.destroy(new UpstreamTimeoutError('no response in time')))
    const fail = (error: Error) => {
      clearTimeout(timer)
      response.off('close', onClientGone)
      upstream.lost()
      reject(error)
    }
    const onFailure = (error: Error) => {
      // Once the response has begun, copying it deals with its end.
      if (response.headersSent) return
      fail(error instanceof UpstreamTimeoutError ? error : new UpstreamFailedError(upstream.isReused, { cause: error }))
    }
    outgoing.on('error', onFailure)
    response.once('close', onClientGone)
    outgoing.on('continue', () => response.writeContinue())
    refuseUpgrade(outgoing)
    outgoing.once('response', (answer) => {
      clearTimeout(timer)
      try {
        copyResponse(answer, response, forward)
      } catch (error) {
        outgoing.destroy()
        // Node has kept what it would not write.
        response.statusMessage = ''
        fail(new UpstreamFailedError(false, { cause: error }))
        return
      }
      response.once('finish', () => {
        stopUnwantedBody(incoming, outgoing)
        resolve()
      })
    })
    sendBody(incoming, outgoing)
  })
}

/** Node would drop the connection without a word when a backend changes the protocol of a request that did not ask. */
function refuseUpgrade(outgoing: ClientRequest): void {
  outgoing.once('upgrade', (_answer, socket) => {
    socket.destroy()
    outgoing.emit('error', new Error('it changed the protocol unasked'))
  })
}

/** True for requests that may be sent again when nothing is known of the first try (RFC 9110, section 9.2.2). */
export function isRepeatable(incoming: IncomingMessage): boolean {
  return repeatableMethods.has(incoming.method ?? '') && !hasBody(incoming)
}

const repeatableMethods: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'])

/** Begins a request with these fields; the connection is kept after a response in order. */
export function openRequest(
  incoming: IncomingMessage,
  upstream: HttpUpstream,
  forward: HttpForward,
  headers: readonly string[],
): ClientRequest {
  const outgoing = httpRequest({
    createConnection: () => upstream.stream,
    method: incoming.method,
    path: forward.path ?? incoming.url,
    headers,
    setHost: false,
    insecureHTTPParser: false,
  })
  // Node takes a connection that is not an agent's for one that ends with its request.
  outgoing.shouldKeepAlive = true
  upstream.stream.once('free', upstream.keep)
  return outgoing
}

/** The end-to-end fields that the backend gets. */
export function forwardedHeaders(incoming: IncomingMessage, forward: HttpForward): readonly string[] {
  const kept = endToEndHeaders(incoming.rawHeaders)
  return forward.requestHeaders?.(kept) ?? kept
}

function requestHeaders(incoming: IncomingMessage, forward: HttpForward): string[] {
  const headers = [...forwardedHeaders(incoming, forward), 'Connection', 'keep-alive']
  if (incoming.headers['transfer-encoding'] !== undefined) headers.push('Transfer-Encoding', 'chunked')
  // Else Node would frame a body that is not there in chunks.
  else if (!hasHeader(headers, 'content-length') && methodsWithBody.has(incoming.method ?? '')) {
    headers.push('Content-Length', '0')
  }
  return headers
}

const methodsWithBody: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH'])

/** True when a body follows the head. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
}

function sendBody(incoming: IncomingMessage, outgoing: ClientRequest): void {
  if (!hasBody(incoming)) {
    outgoing.end()
    return
  }
  // A client that waits for `100 Continue` gets the backend's, so the backend must see the head first.
  outgoing.flushHeaders()
  incoming.pipe(outgoing, { end: false })
  incoming.once('end', () => {
    if (incoming.rawTrailers.length > 0) outgoing.addTrailers([...fieldsOf(incoming.rawTrailers)].map(mutablePair))
    outgoing.end()
  })
}

/**
 * Copies head, body and trailers; a response that the backend breaks off resets the client. Throws, with nothing sent,
 * at a head that is read here but may not be written: a status below 100, or control characters in the reason.
 */
export function copyResponse(answer: IncomingMessage, response: ServerResponse, forward: HttpForward): void {
  const status = answer.statusCode ?? 502
  const kept = endToEndHeaders(answer.rawHeaders)
  response.sendDate = false
  response.writeHead(status, answer.statusMessage ?? '', [...(forward.responseHeaders?.(status, kept) ?? kept)])
  answer.pipe(response, { end: false })
  answer.once('end', () => {
    if (answer.rawTrailers.length > 0) response.addTrailers([...fieldsOf(answer.rawTrailers)].map(mutablePair))
    response.end()
  })
  // An end without the rest of the body must not look like an end in order.
  answer.once('close', () => {
    if (!answer.complete && response.socket !== null) resetStream(response.socket, new Error('the backend was lost'))
  })
  answer.on('error', () => {})
}

/** After an early response the client may still be sending: what comes is dropped, but not for ever. */
function stopUnwantedBody(incoming: IncomingMessage, outgoing: ClientRequest): void {
  if (incoming.complete) return
  incoming.unpipe(outgoing)
  outgoing.destroy()
  incoming.resume()
  const { socket } = incoming
  const timer = setTimeout(() => socket.destroy(), lingerMs)
  // Node ends a connection that is not kept without a word about the request.
  const onClosed = () => {
    clearTimeout(timer)
    incoming.off('close', onClosed)
    socket.off('close', onClosed)
  }
  incoming.once('close', onClosed)
  socket.once('close', onClosed)
}

function startTimer(afterMs: number | undefined, action: () => void): NodeJS.Timeout | undefined {
  return afterMs === undefined ? undefined : setTimeout(action, afterMs)
}

function mutablePair([name, value]: readonly [string, string]): [string, string] {
  return [name, value]
}
