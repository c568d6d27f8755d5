import { createHash, randomBytes } from 'node:crypto'
import { type ByteStream, readBorrowed } from '../../net/index.ts'
import { type BodyDecoder, type BodySink, createBodyDecoder } from './body-decoder.ts'
import { GatheredOutput } from './gathered-output.ts'
import { MessageError, type ResponseHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'
import { ResponseHeadParser } from './parse-response-head.ts'
import {
  type OutgoingRequest,
  type UpstreamConnection,
  UpstreamError,
  type UpstreamFailure,
  type UpstreamListener,
  type UpstreamRequest,
} from './upstream.ts'

const headEnd = Buffer.from('\r\n\r\n')
const longestHead = 262_144
const mostInformational = 64

interface BodyEnd {
  readonly trailers: HeaderFields | undefined
}

/** Is told when a connection may be used again, and when it is over. */
export interface ConnectionOwner {
  onIdle(connection: Http1UpstreamConnection): void
  onClosed(connection: Http1UpstreamConnection): void
}

/**
 * HTTP/1.1 to a backend, one request at a time:
 *
 *     idle ──send──► waiting for the head ──► body ──► idle, or closed when either side wants that
 */
export class Http1UpstreamConnection implements UpstreamConnection, UpstreamRequest, BodySink {
  readonly #stream: ByteStream
  readonly #owner: ConnectionOwner
  readonly #output: GatheredOutput
  readonly #reading: Disposable
  readonly #heads = new ResponseHeadParser()
  #request: OutgoingRequest | undefined
  #listener: UpstreamListener | undefined
  #pending: Buffer | undefined
  #head: ResponseHead | undefined
  #decoder: BodyDecoder | undefined
  #end: BodyEnd | undefined
  #isSent = false
  #isAnswered = false
  #hasBytes = false
  #informational = 0
  /** Made here for clients that have none, because HTTP/2 knows no such key; the answer to it is ours to check. */
  #webSocketKey: string | undefined
  #isClosed = false
  #isPaused = false
  requests = 0
  /** When the connection became idle, on the clock of `performance.now()`. */
  idleSince = 0
  /** The backend's own idle time, from its Keep-Alive field, in milliseconds. */
  keepAliveMs = Number.POSITIVE_INFINITY

  constructor(stream: ByteStream, owner: ConnectionOwner) {
    this.#stream = stream
    this.#owner = owner
    this.#output = new GatheredOutput(stream)
    this.#reading = readBorrowed(stream, (bytes) => this.#onBytes(bytes))
    stream.on('end', () => this.#onStreamEnd())
    stream.on('error', (error: Error) => this.#fail('reset', error.message, error))
    stream.on('close', () => this.#fail('reset', 'the connection was closed'))
    stream.on('drain', () => this.#listener?.onDrain())
  }

  get isIdle(): boolean {
    return this.#request === undefined && !this.#isClosed
  }

  send(request: OutgoingRequest, listener: UpstreamListener): UpstreamRequest {
    this.#request = request
    this.#listener = listener
    this.#isSent = false
    this.#isAnswered = false
    this.#hasBytes = false
    this.#informational = 0
    this.requests += 1
    this.#webSocketKey = keyToMake(request)
    this.#output.text(renderRequest(request, this.#webSocketKey))
    return this
  }

  release(): void {
    this.idleSince = performance.now()
    if (this.isIdle) this.#owner.onIdle(this)
  }

  write(chunk: Buffer): boolean {
    if (this.#isClosed || chunk.length === 0) return true
    const isChunked = this.#request?.body.kind === 'chunked'
    return this.#output.bytes(isChunked ? `${chunk.length.toString(16)}\r\n` : '', chunk, isChunked ? '\r\n' : '')
  }

  end(trailers?: HeaderFields): void {
    if (this.#isSent || this.#request === undefined) return
    this.#isSent = true
    if (this.#request.body.kind === 'chunked') this.#output.text(`0\r\n${trailers?.render() ?? ''}\r\n`)
    this.#settle()
  }

  pause(): void {
    this.#isPaused = true
    this.#stream.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#stream.resume()
  }

  cancel(): void {
    this.#listener = undefined
    this.close()
  }

  /** Ends the connection; a request under way is told. */
  close(): void {
    if (this.#isClosed) return
    this.#fail('reset', 'the connection was closed')
  }

  onData(chunk: Buffer): void {
    this.#listener?.onData(chunk)
  }

  /** The decoder found the end; what comes of it is decided once it is known whether anything follows. */
  onEnd(trailers: HeaderFields | undefined): void {
    this.#end = { trailers }
  }

  #complete({ trailers }: BodyEnd, isLast: boolean): void {
    this.#isAnswered = true
    const listener = this.#listener
    // An answer before the end of the request leaves a connection whose next bytes nobody can tell apart.
    this.#listener = undefined
    const mayStay = !isLast && this.#isSent && this.#head?.closes === false && !this.#isClosed
    if (mayStay) this.#becomeIdle()
    else this.#shut()
    listener?.onEnd(trailers)
  }

  #becomeIdle(): void {
    this.keepAliveMs = keepAliveOf(this.#head)
    this.#request = undefined
    this.#head = undefined
    this.#decoder = undefined
    this.resume()
    this.idleSince = performance.now()
    this.#owner.onIdle(this)
  }

  #settle(): void {
    if (this.#isAnswered) this.#shut()
  }

  #onBytes(chunk: Buffer): void {
    if (this.#isClosed) return
    if (this.#request === undefined) {
      // Nobody asked: whatever this answers, it would be taken for the answer to the next request.
      this.#shut()
      return
    }
    this.#hasBytes = true
    try {
      if (this.#decoder !== undefined) this.#takeBody(this.#decoder, chunk, 0)
      else this.#takeHead(chunk)
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      this.#fail('bad-answer', error.message)
    }
  }

  #takeHead(chunk: Buffer): void {
    const bytes = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk])
    this.#pending = undefined
    const end = bytes.indexOf(headEnd)
    if (end === -1) {
      if (bytes.length > longestHead)
        throw new MessageError(502, `the head of the answer is longer than ${longestHead} bytes`)
      this.#pending = Buffer.copyBytesFrom(bytes)
      return
    }
    const head = this.#heads.parse(bytes.toString('latin1', 0, end), this.#request?.method ?? '')
    if (head.status < 200) this.#onInformational(head, bytes, end + 4)
    else this.#onFinalHead(head, bytes, end + 4)
  }

  #onInformational(head: ResponseHead, bytes: Buffer, offset: number): void {
    if (head.status === 101) {
      this.#onSwitch(head, bytes.subarray(offset))
      return
    }
    this.#informational += 1
    if (this.#informational > mostInformational)
      throw new MessageError(502, 'the backend sends interim answers without end')
    this.#listener?.onInformational(head.status, head.headers)
    if (offset < bytes.length && !this.#isClosed) this.#takeHead(bytes.subarray(offset))
  }

  #onSwitch(head: ResponseHead, rest: Buffer): void {
    if (this.#request?.isUpgrade !== true)
      throw new MessageError(502, 'the backend switched protocols without being asked')
    if (this.#webSocketKey !== undefined && head.headers.get('sec-websocket-accept') !== acceptOf(this.#webSocketKey))
      throw new MessageError(502, 'the backend agreed to another WebSocket than the one it was asked for')
    const listener = this.#listener
    this.#listener = undefined
    this.#isClosed = true
    for (const event of ['end', 'error', 'close', 'drain']) this.#stream.removeAllListeners(event)
    this.#reading[Symbol.dispose]()
    this.#stream.pause()
    this.#stream.on('error', () => {})
    if (rest.length > 0) this.#stream.unshift(Buffer.copyBytesFrom(rest))
    this.#owner.onClosed(this)
    listener?.onUpgrade(head, this.#stream)
  }

  #onFinalHead(head: ResponseHead, bytes: Buffer, offset: number): void {
    this.#head = head
    this.#decoder = createBodyDecoder(head.body)
    this.#listener?.onHead(head)
    if (this.#isClosed) return
    if (this.#decoder?.isComplete === true) this.#complete({ trailers: undefined }, offset < bytes.length)
    else if (this.#decoder !== undefined && offset < bytes.length) this.#takeBody(this.#decoder, bytes, offset)
  }

  #takeBody(decoder: BodyDecoder, chunk: Buffer, offset: number): void {
    const offsetAfter = decoder.take(chunk, offset, this)
    const end = this.#end
    this.#end = undefined
    // What follows an answer would be taken for the answer to the next request.
    if (end !== undefined && !this.#isClosed) this.#complete(end, offsetAfter < chunk.length)
  }

  #onStreamEnd(): void {
    if (this.#head?.body.kind === 'until-close' && !this.#isAnswered) this.#complete({ trailers: undefined }, true)
    else this.#fail('reset', 'the backend closed the connection')
  }

  #fail(failure: UpstreamFailure, message: string, cause?: Error): void {
    if (this.#isClosed) return
    const listener = this.#listener
    const isEarly = failure === 'reset' && !this.#hasBytes
    const options = { wasReused: this.requests > 1, ...(cause === undefined ? {} : { cause }) }
    const isUnderWay = this.#request !== undefined && !this.#isAnswered
    this.#shut()
    if (isUnderWay) listener?.onError(new UpstreamError(isEarly ? 'reset-before-answer' : failure, message, options))
  }

  #shut(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    this.#listener = undefined
    this.#stream.destroy()
    this.#owner.onClosed(this)
  }
}

function renderRequest(
  { method, target, authority, headers, body, isUpgrade }: OutgoingRequest,
  webSocketKey: string | undefined,
): string {
  let text = `${method} ${target} HTTP/1.1\r\nhost: ${authority}\r\n${headers.render()}`
  if (body.kind === 'length') text += `content-length: ${body.length}\r\n`
  if (body.kind === 'chunked') text += 'transfer-encoding: chunked\r\n'
  if (isUpgrade) text += 'connection: Upgrade\r\nupgrade: websocket\r\n'
  if (webSocketKey !== undefined) text += `sec-websocket-key: ${webSocketKey}\r\n`
  return `${text}\r\n`
}

function keyToMake({ isUpgrade, headers }: OutgoingRequest): string | undefined {
  return isUpgrade && !headers.has('sec-websocket-key') ? randomBytes(16).toString('base64') : undefined
}

/** RFC 6455 4.2.2. */
function acceptOf(key: string): string {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')
}

function keepAliveOf(head: ResponseHead | undefined): number {
  const value = head?.headers.get('keep-alive')
  const seconds = value === undefined ? undefined : /(?:^|[,\s])timeout=(\d{1,6})/.exec(value)?.[1]
  return seconds === undefined ? Number.POSITIVE_INFINITY : Number(seconds) * 1000
}
