import { type ByteStream, readBorrowed } from '../../net/index.ts'
import { Deadline } from './deadline.ts'
import type { ClientInfo, ExchangeHandler } from './exchange.ts'
import { GatheredOutput } from './gathered-output.ts'
import { MessageError, type RequestHead } from './head.ts'
import { type ExchangeOwner, Http1Exchange } from './http1-exchange.ts'
import { RequestHeadParser } from './parse-request-head.ts'
import { renderRefusal, slowBody } from './refusal.ts'

/** What a client may take. Times are milliseconds. */
export interface Http1Limits {
  readonly maxHeadBytes: number
  readonly headTimeoutMs: number
  /** How long nothing of a body may come. */
  readonly bodyTimeoutMs: number
  readonly idleTimeoutMs: number
}

/** How a connection is served. */
export interface Http1ServerOptions {
  readonly client: ClientInfo
  readonly limits: Http1Limits
  readonly onExchange: ExchangeHandler
  /** Is told of requests that were refused before they were one. */
  readonly onRefused: (error: MessageError) => void
}

const headEnd = Buffer.from('\r\n\r\n')
/** Bytes of requests that a client sends ahead; beyond this it waits. */
const mostAhead = 65_536

/**
 * Serves HTTP/1.1 on one connection, one request after the other:
 *
 *     idle ──bytes──► head ──complete──► body ──complete──► answering ──done──► idle
 *                                          └─── the answer may begin and end while the body still comes
 */
export class Http1ServerConnection implements ExchangeOwner {
  readonly #socket: ByteStream
  readonly #options: Http1ServerOptions
  readonly #reading: Disposable
  readonly #heads: RequestHeadParser
  readonly #deadline: Deadline
  readonly output: GatheredOutput
  #pending: Buffer | undefined
  #exchange: Http1Exchange | undefined
  /** What is waited for until the deadline. */
  #awaited: 'request' | 'head' | 'body' | 'close' = 'request'
  #isDraining = false
  #isClosed = false
  #isParsing = false
  #hasEnded = false

  constructor(socket: ByteStream, options: Http1ServerOptions) {
    this.#socket = socket
    this.#options = options
    this.output = new GatheredOutput(socket)
    this.#heads = new RequestHeadParser(options.client.isTls ? 'https' : 'http')
    this.#deadline = new Deadline(() => this.#onTimeout())
    this.#reading = readBorrowed(socket, (bytes) => this.#onData(bytes))
    socket.on('end', () => this.#onEnd())
    socket.on('close', () => this.#onClose())
    socket.on('drain', () => this.#exchange?.drained())
    this.#wait('head')
  }

  /** Takes bytes that were read from the socket before. */
  feed(chunk: Buffer): void {
    if (chunk.length > 0) this.#onData(chunk)
  }

  /** Closes after the request under way, at once when there is none; does nothing after `release`. */
  drain(): void {
    this.#isDraining = true
    // What has become a WebSocket is another's, until that one cuts it.
    if (this.#isClosed) return
    if (this.#exchange === undefined && this.#pending === undefined) this.output.end()
  }

  get isDraining(): boolean {
    return this.#isDraining
  }

  /** The bytes are only lent, and copied unless they are one whole head. */
  #onData(bytes: Buffer): void {
    if (this.#isClosed) return
    if (this.#exchange === undefined && this.#pending === undefined && endsWithHead(bytes)) {
      this.#pending = bytes
      this.#parsePending()
      return
    }
    const chunk = Buffer.copyBytesFrom(bytes)
    if (this.#exchange?.isReading === true) {
      this.#feedBody(this.#exchange, chunk)
      return
    }
    this.#pending = this.#pending === undefined ? chunk : Buffer.concat([this.#pending, chunk])
    if (this.#exchange !== undefined) {
      if (this.#pending.length > mostAhead) this.#socket.pause()
      return
    }
    this.#parsePending()
  }

  #feedBody(exchange: Http1Exchange, chunk: Buffer): void {
    this.#wait('body')
    try {
      const end = exchange.feed(chunk)
      if (!exchange.isReading && this.#awaited === 'body' && this.#exchange === exchange) this.#deadline.clear()
      if (end < chunk.length && !this.#isClosed) {
        const rest = chunk.subarray(end)
        this.#pending = this.#pending === undefined ? rest : Buffer.concat([this.#pending, rest])
        // The end of a body that nobody wanted has ended its exchange already.
        this.#parsePending()
      }
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      this.#breakOff(exchange, error)
    }
  }

  /** After a broken body nothing on this connection can be trusted any more. */
  #breakOff(exchange: Http1Exchange, error: MessageError): void {
    const mayAnswer = !exchange.hasResponded
    exchange.gone()
    this.#exchange = undefined
    if (mayAnswer) this.#refuse(error)
    else {
      this.#options.onRefused(error)
      this.#socket.destroy()
    }
  }

  /** Handles the requests that are complete enough; not reentrant, because an answer may come at once. */
  #parsePending(): void {
    if (this.#isParsing) return
    this.#isParsing = true
    while (this.#exchange === undefined && this.#pending !== undefined && !this.#isClosed) {
      if (!this.#parseOne(this.#pending)) break
    }
    this.#isParsing = false
  }

  #parseOne(bytes: Buffer): boolean {
    // One empty line before a request is an old client's habit (RFC 9112 2.2).
    const start = bytes[0] === carriageReturn && bytes[1] === lineFeed ? 2 : 0
    const end = bytes.indexOf(headEnd, start)
    const problem = this.#problemOf(bytes, start, end)
    if (problem !== undefined) this.#refuse(problem)
    if (problem !== undefined || end === -1) return false
    try {
      this.#begin(this.#heads.parse(bytes.toString('latin1', start, end)), bytes, end + 4)
      return true
    } catch (error) {
      if (!(error instanceof MessageError)) throw error
      this.#refuse(error)
      return false
    }
  }

  /** What is wrong with a head that may not be complete; when nothing is, the rest of it is waited for. */
  #problemOf(bytes: Buffer, start: number, end: number): MessageError | undefined {
    const { maxHeadBytes } = this.#options.limits
    if (!mayBeginRequest(bytes[start])) {
      return new MessageError(400, 'this is no HTTP; is it TLS, which this port does not speak?')
    }
    if ((end === -1 ? bytes.length : end) - start > maxHeadBytes) {
      return new MessageError(431, `the head is longer than ${maxHeadBytes} bytes`)
    }
    if (end === -1 && this.#awaited !== 'head') this.#wait('head')
    return undefined
  }

  #begin(request: RequestHead, bytes: Buffer, offset: number): void {
    const exchange = new Http1Exchange(this, this.#socket, request, this.#options.client)
    this.#exchange = exchange
    this.#pending = undefined
    if (exchange.isReading) this.#feedBody(exchange, bytes.subarray(offset))
    else {
      this.#deadline.clear()
      if (offset < bytes.length) this.#pending = bytes.subarray(offset)
    }
    // A body that was broken in its first bytes has ended the exchange already.
    if (this.#exchange === exchange) this.#options.onExchange(exchange)
  }

  #refuse(error: MessageError): void {
    if (this.#isClosed) return
    this.#options.onRefused(error)
    this.#isClosed = true
    this.#pending = undefined
    this.output.text(renderRefusal(error.status, error.message))
    this.output.end()
    // What still comes is not read; a client that never closes is not waited for.
    this.#socket.resume()
    this.#wait('close')
  }

  /** The exchange is over: the next one, or the end. */
  finished(exchange: Http1Exchange, mayContinue: boolean): void {
    if (this.#exchange !== exchange) return
    this.#exchange = undefined
    if (this.#isClosed) return
    if (!mayContinue || this.#isDraining || (this.#hasEnded && this.#pending === undefined)) {
      this.#isClosed = true
      this.#pending = undefined
      this.output.end()
      this.#socket.resume()
      this.#wait('close')
      return
    }
    this.#wait('request')
    if (this.#socket.isPaused()) this.#socket.resume()
    this.#parsePending()
  }

  /** Lets go of the socket for another protocol; gives what was read ahead. */
  release(): Buffer | undefined {
    const rest = this.#pending
    this.#isClosed = true
    this.#pending = undefined
    this.#exchange = undefined
    this.#deadline.stop()
    this.#reading[Symbol.dispose]()
    this.#socket.removeAllListeners('end')
    this.#socket.removeAllListeners('close')
    this.#socket.removeAllListeners('drain')
    this.#socket.pause()
    return rest
  }

  #onEnd(): void {
    this.#hasEnded = true
    const exchange = this.#exchange
    if (exchange === undefined) {
      if (!this.#isClosed) this.output.end()
    } else if (exchange.isReading) {
      exchange.gone()
      this.#socket.destroy()
    }
  }

  #onClose(): void {
    this.#isClosed = true
    this.#deadline.stop()
    const exchange = this.#exchange
    this.#exchange = undefined
    exchange?.gone()
  }

  #wait(awaited: 'request' | 'head' | 'body' | 'close'): void {
    const { headTimeoutMs, bodyTimeoutMs, idleTimeoutMs } = this.#options.limits
    this.#awaited = awaited
    this.#deadline.set({ request: idleTimeoutMs, head: headTimeoutMs, body: bodyTimeoutMs, close: 1_000 }[awaited])
  }

  #onTimeout(): void {
    const exchange = this.#exchange
    if (this.#awaited === 'body' && exchange !== undefined) this.#onSlowBody(exchange)
    else if (this.#awaited === 'head' && this.#pending !== undefined)
      this.#refuse(new MessageError(408, 'the head of the request did not arrive in time'))
    else {
      this.#isClosed = true
      this.#socket.destroy()
    }
  }

  #onSlowBody(exchange: Http1Exchange): void {
    // An answer that has begun may wait for a body of its own kind, and whoever does not take it is not the client.
    if (exchange.isPaused || exchange.hasResponded) this.#wait('body')
    else this.#breakOff(exchange, new MessageError(408, slowBody))
  }
}

/** True when the bytes are one head and nothing else. */
function endsWithHead(bytes: Buffer): boolean {
  const end = bytes.length - headEnd.length
  return end > 0 && bytes.indexOf(headEnd) === end
}

/** Told at once, because a client that begins with something else waits for an answer instead of sending a head. */
function mayBeginRequest(byte: number | undefined): boolean {
  return byte === undefined || byte === carriageReturn || (byte > 0x20 && byte < 0x7f)
}

const carriageReturn = 13
const lineFeed = 10
