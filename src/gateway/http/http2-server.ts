import {
  constants,
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import type { ByteStream } from '../../net/index.ts'
import { Deadline } from './deadline.ts'
import type { ClientInfo, Exchange, ExchangeHandler, ExchangeListener } from './exchange.ts'
import { isGrpcRequest, type RequestHead } from './head.ts'
import { HeaderFields } from './header-fields.ts'
import { fieldsOfHttp2, http2HeadersOf } from './http2-fields.ts'
import { http2RequestHead } from './http2-request-head.ts'
import { bodyOf, slowBody } from './refusal.ts'

/** How a connection is served. */
export interface Http2ServerOptions {
  readonly client: ClientInfo
  readonly maxHeadBytes: number
  readonly idleTimeoutMs: number
  readonly bodyTimeoutMs: number
  readonly onExchange: ExchangeHandler
}

const mostStreams = 250

/** Serves HTTP/2 on one connection, whose preface may not have been read. */
export class Http2ServerConnection {
  readonly #session: ServerHttp2Session

  constructor(stream: ByteStream, options: Http2ServerOptions) {
    const { client, maxHeadBytes, idleTimeoutMs, bodyTimeoutMs, onExchange } = options
    this.#session = performServerHandshake(stream, {
      maxHeaderListPairs: 256,
      settings: {
        maxConcurrentStreams: mostStreams,
        maxHeaderListSize: maxHeadBytes,
        initialWindowSize: 1_048_576,
        enableConnectProtocol: true,
      },
    })
    this.#session.setLocalWindowSize(4_194_304)
    this.#session.on('error', () => {})
    // Its direction alone; what it has asked is still answered.
    stream.once('end', () => this.#session.close())
    this.#session.setTimeout(idleTimeoutMs, () => this.#session.close())
    this.#session.on('stream', (request: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number) => {
      request.on('error', () => {})
      const head = http2RequestHead(headers, client.isTls, (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0)
      if (head === undefined) request.close(constants.NGHTTP2_PROTOCOL_ERROR)
      else onExchange(new Http2Exchange(request, head, client, bodyTimeoutMs))
    })
  }

  /** Takes no new requests; closes when the last one is done. */
  drain(): void {
    this.#session.close()
  }
}

class Http2Exchange implements Exchange {
  readonly request: RequestHead
  readonly client: ClientInfo
  readonly hasBody: boolean
  readonly #stream: ServerHttp2Stream
  #trailers: HeaderFields | undefined
  #sentTrailers: HeaderFields | undefined
  #listener: ExchangeListener | undefined
  readonly #bodyTimeoutMs: number
  #bodyLimit: Deadline | undefined
  #isPaused = false
  #isDone = false

  constructor(stream: ServerHttp2Stream, request: RequestHead, client: ClientInfo, bodyTimeoutMs: number) {
    this.#stream = stream
    this.request = request
    this.client = client
    this.hasBody = request.body.kind !== 'none'
    this.#bodyTimeoutMs = bodyTimeoutMs
  }

  listen(listener: ExchangeListener): void {
    this.#listener = listener
    const stream = this.#stream
    if (!this.#isOpen()) {
      this.#onClose()
      return
    }
    stream.on('close', () => this.#onClose())
    stream.on('drain', () => this.#listener?.onDrain())
    if (!this.hasBody) {
      listener.onEnd(undefined)
      return
    }
    stream.on('trailers', (headers) => {
      this.#trailers = fieldsOfHttp2(headers)
    })
    stream.on('data', (chunk: Buffer) => {
      this.#bodyLimit?.set(this.#bodyTimeoutMs)
      this.#listener?.onData(chunk)
    })
    stream.on('end', () => {
      this.#bodyLimit?.stop()
      setImmediate(() => this.#onEnd())
    })
    // The sides of a gRPC call may be silent for as long as they like.
    if (isGrpcRequest(this.request)) return
    this.#bodyLimit = new Deadline(() => this.#onSlowBody())
    this.#bodyLimit.set(this.#bodyTimeoutMs)
  }

  pause(): void {
    this.#isPaused = true
    this.#stream.pause()
  }

  resume(): void {
    this.#isPaused = false
    this.#stream.resume()
  }

  discardBody(): void {
    this.#listener = undefined
  }

  /** An answer that has begun may wait for a body of its own kind, and whoever does not take it is not the client. */
  #onSlowBody(): void {
    if (!this.#isOpen() || this.#isDone) return
    if (this.#isPaused || this.#stream.headersSent) {
      this.#bodyLimit?.set(this.#bodyTimeoutMs)
      return
    }
    this.#isDone = true
    this.#listener?.onGone()
    this.#stream.respond({ ':status': 408 })
    this.#stream.end(bodyOf(408, slowBody))
    this.#stream.resume()
  }

  informational(status: number, headers: HeaderFields): void {
    if (this.#isOpen() && !this.#stream.headersSent)
      this.#stream.additionalHeaders({ ':status': status, ...http2HeadersOf(headers) })
  }

  respond(status: number, _reason: string, headers: HeaderFields, length: number | undefined): void {
    if (!this.#isOpen()) return
    const fields = {
      ...http2HeadersOf(headers),
      // What RFC 9110 15 does not know, backends may say in HTTP/1.1; node:http2 throws.
      ':status': status > 599 ? 502 : status,
      ...(length !== undefined && { 'content-length': length }),
    }
    this.#stream.respond(fields, { waitForTrailers: true })
    this.#stream.on('wantTrailers', () =>
      this.#stream.sendTrailers(http2HeadersOf(this.#sentTrailers ?? new HeaderFields())),
    )
  }

  write(chunk: Buffer): boolean {
    return this.#isOpen() ? this.#stream.write(Buffer.copyBytesFrom(chunk)) : true
  }

  end(trailers?: HeaderFields): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#sentTrailers = trailers
    if (!this.#isOpen()) return
    this.#stream.end()
    // What the client still sends of its request is not wanted any more.
    if (!this.#stream.readableEnded) this.#stream.resume()
  }

  abort(): void {
    this.#isDone = true
    this.#stream.close(constants.NGHTTP2_INTERNAL_ERROR)
  }

  /** The client is told by 200 that its stream is a WebSocket now; what HTTP/1.1 says about that is not for it. */
  upgrade(_reason: string, headers: HeaderFields): ByteStream {
    this.#isDone = true
    const fields = headers.copy()
    fields.delete('sec-websocket-accept')
    if (this.#isOpen()) this.#stream.respond({ ...http2HeadersOf(fields), ':status': 200 })
    return this.#stream
  }

  #isOpen(): boolean {
    return !(this.#stream.destroyed || this.#stream.closed)
  }

  #onEnd(): void {
    if (!this.#isDone) this.#listener?.onEnd(this.#trailers)
  }

  #onClose(): void {
    this.#bodyLimit?.stop()
    if (this.#isDone) return
    this.#isDone = true
    this.#listener?.onGone()
  }
}
