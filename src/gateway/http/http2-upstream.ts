import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type IncomingHttpStatusHeader,
} from 'node:http2'
import type { ByteStream } from '../../net/index.ts'
import { HeaderFields } from './header-fields.ts'
import { fieldsOfHttp2, http2HeadersOf } from './http2-fields.ts'
import {
  type OutgoingRequest,
  type UpstreamConnection,
  UpstreamError,
  type UpstreamListener,
  type UpstreamRequest,
} from './upstream.ts'

/** The numbers of streams run out after a billion; nothing is lost when a connection is replaced much earlier. */
const mostRequestsInAll = 1_000_000

/** HTTP/2 to a backend without encryption, for gRPC and for ServicePorts that say they speak it. */
export class Http2UpstreamConnection implements UpstreamConnection {
  readonly #session: ClientHttp2Session
  readonly #mostRequests: number
  #requests = 0
  #isDraining = false

  constructor(stream: ByteStream, onClosed: () => void, mostRequests: number = mostRequestsInAll) {
    this.#mostRequests = mostRequests
    this.#session = connect('http://backend', { createConnection: () => stream, settings: { enablePush: false } })
    this.#session.on('error', () => {})
    this.#session.once('close', onClosed)
    this.#session.once('goaway', () => {
      this.#isDraining = true
    })
  }

  /** True while new requests may be sent. */
  get isUsable(): boolean {
    return !(this.#isDraining || this.#session.closed || this.#session.destroyed)
  }

  /** Closes when the last request is done. */
  drain(): void {
    this.#isDraining = true
    this.#session.close()
  }

  /** Nothing to do: it is shared by all requests. */
  release(): void {}

  close(): void {
    this.#session.destroy()
  }

  send(request: OutgoingRequest, listener: UpstreamListener): UpstreamRequest {
    this.#requests += 1
    const headers = {
      ...http2HeadersOf(request.headers),
      ':method': request.method,
      ':scheme': 'http',
      ':authority': request.authority,
      ':path': request.target,
      ...(request.body.kind === 'length' && { 'content-length': String(request.body.length) }),
    }
    const endStream = request.body.kind === 'none'
    const options = { endStream, waitForTrailers: !endStream }
    const stream = this.#session.request(headers, options)
    if (this.#requests >= this.#mostRequests) {
      this.#isDraining = true
      // Closed any sooner, the session would not send this request any more.
      stream.once('close', () => this.drain())
    }
    return new Http2Request(stream, listener, this.#requests > 1)
  }
}

class Http2Request implements UpstreamRequest {
  readonly #stream: ClientHttp2Stream
  readonly #wasReused: boolean
  #listener: UpstreamListener | undefined
  #trailers: HeaderFields | undefined
  #sentTrailers: HeaderFields | undefined
  #hasHead = false
  #error: Error | undefined

  constructor(stream: ClientHttp2Stream, listener: UpstreamListener, wasReused: boolean) {
    this.#stream = stream
    this.#listener = listener
    this.#wasReused = wasReused
    stream.on('headers', (headers) => listener.onInformational(Number(headers[':status']), fieldsOfHttp2(headers)))
    stream.on('response', (headers) => this.#onResponse(headers))
    stream.on('trailers', (headers) => {
      this.#trailers = fieldsOfHttp2(headers)
    })
    stream.on('drain', () => this.#listener?.onDrain())
    stream.on('wantTrailers', () => stream.sendTrailers(http2HeadersOf(this.#sentTrailers ?? new HeaderFields())))
    stream.on('error', (error) => {
      this.#error = error
    })
    stream.on('close', () => this.#onClose())
  }

  write(chunk: Buffer): boolean {
    return this.#stream.writable ? this.#stream.write(chunk) : true
  }

  end(trailers?: HeaderFields): void {
    this.#sentTrailers = trailers
    this.#stream.end()
  }

  pause(): void {
    this.#stream.pause()
  }

  resume(): void {
    this.#stream.resume()
  }

  cancel(): void {
    this.#listener = undefined
    this.#stream.close(constants.NGHTTP2_CANCEL)
  }

  #onResponse(headers: IncomingHttpHeaders & IncomingHttpStatusHeader): void {
    this.#hasHead = true
    const fields = fieldsOfHttp2(headers)
    const length = fields.get('content-length')
    fields.delete('content-length')
    const body =
      length === undefined ? ({ kind: 'chunked' } as const) : ({ kind: 'length', length: Number(length) } as const)
    this.#listener?.onHead({ status: headers[':status'] ?? 502, reason: '', headers: fields, body, closes: false })
    // Listened to any earlier, the body of an answer in one piece would come before its head.
    this.#stream.on('data', (chunk: Buffer) => this.#listener?.onData(chunk))
    this.#stream.on('end', () => this.#onEnd())
  }

  #onEnd(): void {
    // The end of the body can come before the trailers' event; the end of the stream cannot.
    setImmediate(() => this.#finish())
  }

  #finish(): void {
    const listener = this.#listener
    if (!this.#hasHead || this.#stream.rstCode !== constants.NGHTTP2_NO_ERROR) return
    this.#listener = undefined
    listener?.onEnd(this.#trailers)
  }

  #onClose(): void {
    const listener = this.#listener
    if (listener === undefined) return
    const code = this.#stream.rstCode
    if (this.#hasHead && this.#stream.readableEnded && code === constants.NGHTTP2_NO_ERROR) {
      this.#finish()
      return
    }
    this.#listener = undefined
    // Without a number nothing of it was sent: the connection ended between being chosen and being used.
    const isRefused = code === constants.NGHTTP2_REFUSED_STREAM || this.#stream.id === undefined
    const failure = isRefused ? 'refused' : this.#hasHead ? 'reset' : 'reset-before-answer'
    const message = this.#error?.message ?? `the backend ended the stream with code ${code}`
    listener.onError(new UpstreamError(failure, message, { wasReused: this.#wasReused }))
  }
}
