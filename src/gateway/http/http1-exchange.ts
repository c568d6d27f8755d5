import type { ByteStream } from '../../net/index.ts'
import { type BodyDecoder, createBodyDecoder } from './body-decoder.ts'
import type { ClientInfo, Exchange, ExchangeListener } from './exchange.ts'
import type { GatheredOutput } from './gathered-output.ts'
import type { RequestHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'

/** What is read of a body that nobody wants, so that the connection can go on. */
const mostDiscarded = 65_536
const lastChunk = '0\r\n'

/** The connection as its requests see it. */
export interface ExchangeOwner {
  /** The connection ends after this answer. */
  readonly isDraining: boolean
  readonly output: GatheredOutput
  finished(exchange: Http1Exchange, mayContinue: boolean): void
  /** Lets go of the socket for another protocol; gives what was read ahead. */
  release(): Buffer | undefined
}

/** A request on an HTTP/1.1 connection. */
export class Http1Exchange implements Exchange {
  readonly request: RequestHead
  readonly client: ClientInfo
  readonly #connection: ExchangeOwner
  readonly #socket: ByteStream
  readonly #decoder: BodyDecoder
  #listener: ExchangeListener | undefined
  /** What came before anybody listened. */
  readonly #early: Buffer[] = []
  #trailers: HeaderFields | undefined
  #isRead: boolean
  #isToldOfEnd = false
  #isPaused = false
  #framing: 'chunked' | 'length' | 'none' = 'none'
  #isDone = false
  #isGone = false
  /** The rest of the body is too long to be read for nothing, or may never come. */
  #leavesBody = false
  #hasContinued = false
  hasResponded = false

  constructor(connection: ExchangeOwner, socket: ByteStream, request: RequestHead, client: ClientInfo) {
    this.#connection = connection
    this.#socket = socket
    this.request = request
    this.client = client
    this.#decoder = createBodyDecoder(request.body)
    this.#isRead = this.#decoder.isComplete
  }

  get hasBody(): boolean {
    return !this.#isRead || this.#early.length > 0
  }

  /** True while the body is not complete. */
  get isReading(): boolean {
    return !this.#isRead
  }

  /** True while nobody takes the body. */
  get isPaused(): boolean {
    return this.#isPaused
  }

  feed(chunk: Buffer): number {
    return this.#decoder.take(chunk, 0, this)
  }

  onData(chunk: Buffer): void {
    if (this.#isDone) return
    if (this.#listener === undefined) this.#early.push(chunk)
    else this.#listener.onData(chunk)
  }

  onEnd(trailers: HeaderFields | undefined): void {
    this.#isRead = true
    this.#trailers = trailers
    this.#tellEnd()
    if (this.#isDone) this.#finish()
  }

  listen(listener: ExchangeListener): void {
    this.#listener = listener
    if (this.#isGone) {
      listener.onGone()
      return
    }
    for (const chunk of this.#early.splice(0)) listener.onData(chunk)
    this.#tellEnd()
  }

  #tellEnd(): void {
    if (!this.#isRead || this.#isToldOfEnd || this.#listener === undefined || this.#isDone) return
    this.#isToldOfEnd = true
    this.#listener.onEnd(this.#trailers)
  }

  pause(): void {
    if (this.#isRead || this.#isPaused) return
    this.#isPaused = true
    this.#socket.pause()
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    this.#socket.resume()
  }

  discardBody(): void {
    this.#listener = undefined
    const { body, headers } = this.request
    const isShort = body.kind === 'length' && body.length <= mostDiscarded
    // A client that waits to be asked for its body may do without it now, and then the next bytes are another request.
    const mayNeverCome = headers.has('expect') && !this.#hasContinued
    this.#leavesBody = !(this.#isRead || (isShort && !mayNeverCome))
  }

  informational(status: number, headers: HeaderFields): void {
    if (this.hasResponded || this.#isGone) return
    this.#hasContinued ||= status === 100
    this.#connection.output.text(`HTTP/1.1 ${status} \r\n${headers.render()}\r\n`)
  }

  respond(status: number, reason: string, headers: HeaderFields, length: number | undefined): void {
    this.hasResponded = true
    const hasNoBody = this.request.method === 'HEAD' || status === 204 || status === 304
    this.#framing = hasNoBody ? 'none' : length === undefined ? 'chunked' : 'length'
    let head = `HTTP/1.1 ${status} ${reason}\r\n${headers.render()}`
    if (length !== undefined && status !== 204) head += `content-length: ${length}\r\n`
    if (this.#framing === 'chunked') head += 'transfer-encoding: chunked\r\n'
    if (this.#mustClose()) head += 'connection: close\r\n'
    if (!this.#isGone) this.#connection.output.text(`${head}\r\n`)
  }

  write(chunk: Buffer): boolean {
    if (this.#isGone || this.#framing === 'none' || chunk.length === 0) return true
    const { output } = this.#connection
    if (this.#framing === 'length') return output.bytes('', chunk, '')
    return output.bytes(`${chunk.length.toString(16)}\r\n`, chunk, '\r\n')
  }

  end(trailers?: HeaderFields): void {
    if (this.#isDone) return
    this.#isDone = true
    if (!this.#isGone && this.#framing === 'chunked')
      this.#connection.output.text(`${lastChunk}${trailers?.render() ?? ''}\r\n`)
    this.#finish()
  }

  abort(): void {
    this.#isDone = true
    this.#socket.destroy()
  }

  upgrade(reason: string, headers: HeaderFields): ByteStream {
    this.#isDone = true
    const rest = this.#connection.release()
    if (rest !== undefined) this.#socket.unshift(rest)
    const { output } = this.#connection
    output.text(`HTTP/1.1 101 ${reason}\r\n${headers.render()}connection: Upgrade\r\n\r\n`)
    output.flush()
    return this.#socket
  }

  drained(): void {
    if (!this.#isDone) this.#listener?.onDrain()
  }

  /** The connection is lost. */
  gone(): void {
    if (this.#isGone) return
    this.#isGone = true
    if (!this.#isDone) this.#listener?.onGone()
    this.#isDone = true
  }

  #mustClose(): boolean {
    return this.request.closes || this.#connection.isDraining || this.#leavesBody
  }

  /** The rest of a body that nobody wants any more is read and dropped, as long as it is short. */
  #finish(): void {
    if (this.#isGone) return
    if (this.#isRead) {
      this.#connection.finished(this, !this.#mustClose())
      return
    }
    this.#listener = undefined
    this.resume()
    const { body } = this.request
    if (this.#leavesBody || body.kind !== 'length' || body.length > mostDiscarded)
      this.#connection.finished(this, false)
  }
}
