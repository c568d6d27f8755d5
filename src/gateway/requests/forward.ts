import { backendIdOf, type RetryPolicy } from '../../model/index.ts'
import { type ByteStream, splice } from '../../net/index.ts'
import type { BackendGroup } from '../backends/destinations.ts'
import type { Exchange, ExchangeListener } from '../http/exchange.ts'
import type { ResponseHead } from '../http/head.ts'
import type { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest, UpstreamError, UpstreamListener, UpstreamRequest } from '../http/upstream.ts'
import { BackendAttempts, type Connected, type ForwardSurroundings } from './backend-attempts.ts'
import { balancedClientOf } from './hash-key.ts'
import { endToEndFields } from './header-changes.ts'
import { ReplayBuffer } from './replay-buffer.ts'
import { type AttemptOutcome, isIdempotent, retryPauseMs, wantsRetry } from './retry.ts'

/** One request that goes to a backend. */
export interface ForwardJob {
  readonly exchange: Exchange
  readonly group: BackendGroup
  readonly outgoing: OutgoingRequest
  readonly timeoutMs: number | undefined
  readonly retries: RetryPolicy | undefined
  /** The fields of the answer as the client gets them; not to be changed. */
  readonly shapeAnswer: (head: ResponseHead) => HeaderFields
  /** Copies of the request that go elsewhere. */
  readonly copies: readonly RequestCopy[]
  /** Called once. */
  readonly onEnd: (end: ForwardEnd) => void
}

/** Another reader of the request's body. */
export type RequestCopy = Pick<UpstreamRequest, 'write' | 'end'>

/** How it went. */
export interface ForwardEnd {
  /** 499 when the client was gone before there was an answer. */
  readonly status: number
  /** Whom the answer came from, or who was tried last. */
  readonly backend: string | undefined
  readonly bytesIn: number
  readonly bytesOut: number
  readonly tries: number
  /** Why it is not what a backend said; undefined when it is. */
  readonly problem: string | undefined
  /** True when nothing was answered yet and the gateway has to. */
  readonly mustAnswer: boolean
}

const mostStaleRetries = 3

/**
 * Carries one request to a backend and its answer back:
 *
 *     connecting ──► sending ──► answering ──► done
 *         ▲             │ no answer, and another attempt may be made
 *         └─────────────┘
 *
 * The body is kept up to a limit until the answer begins, so that an attempt can be repeated. This is the side that
 * listens to backends; `ClientSide` below listens to the client.
 */
export class Forward implements UpstreamListener {
  readonly #job: ForwardJob
  readonly #surroundings: ForwardSurroundings
  readonly #attempts: BackendAttempts
  readonly #replay = new ReplayBuffer()
  readonly #setCookie: string | undefined
  readonly #isRepeatable: boolean
  #connected: Connected | undefined
  #upstream: UpstreamRequest | undefined
  #isRequestComplete = false
  #requestTrailers: HeaderFields | undefined
  #hasAnswer = false
  #isDone = false
  #status = 0
  #bytesIn = 0
  #bytesOut = 0
  #retries = 0
  #staleRetries = 0
  #timer: NodeJS.Timeout | undefined
  #tryTimer: NodeJS.Timeout | undefined

  constructor(job: ForwardJob, surroundings: ForwardSurroundings) {
    this.#job = job
    this.#surroundings = surroundings
    const { client, setCookie } = balancedClientOf(job.exchange, job.group.policy)
    this.#setCookie = setCookie
    this.#isRepeatable = isIdempotent(job.outgoing.method) && !job.outgoing.isUpgrade
    this.#attempts = new BackendAttempts(job.group, client, surroundings)
  }

  /** Begins; everything else follows from what both sides do. */
  start(): void {
    const { exchange, timeoutMs } = this.#job
    if (timeoutMs !== undefined) this.#timer = setTimeout(() => this.#onTimeout(timeoutMs), timeoutMs)
    exchange.listen(new ClientSide(this, exchange))
    if (!this.#isDone) this.#connect()
  }

  /** Part of the request's body; false asks the client to wait for `onDrain`. */
  takeBody(chunk: Buffer): boolean {
    this.#bytesIn += chunk.length
    for (const copy of this.#job.copies) copy.write(chunk)
    if (this.#isDone) return true
    if (this.#upstream === undefined) {
      this.#replay.hold(chunk)
      return !this.#replay.isFull
    }
    this.#replay.keep(chunk)
    return this.#upstream.write(chunk)
  }

  /** The request is complete. */
  takeEnd(came: HeaderFields | undefined): void {
    const trailers = trailersOf(came)
    this.#isRequestComplete = true
    this.#requestTrailers = trailers
    for (const copy of this.#job.copies) copy.end(trailers)
    this.#upstream?.end(trailers)
  }

  /** The client takes more of the answer. */
  clientDrained(): void {
    this.#upstream?.resume()
  }

  /** The client is gone. */
  clientGone(): void {
    this.#attempts.stop()
    this.#upstream?.cancel()
    this.#end(this.#hasAnswer ? this.#status : 499, false, 'the client went away')
  }

  onInformational(status: number, headers: HeaderFields): void {
    if (status !== 101 && !this.#isDone) this.#job.exchange.informational(status, headers)
  }

  onHead(head: ResponseHead): void {
    clearTimeout(this.#tryTimer)
    this.#judge(head)
    if (this.#mayRepeat() && this.#retriesLeft() && wantsRetry(this.#job.retries, { kind: 'head', head })) {
      this.#upstream?.cancel()
      this.#retry()
      return
    }
    this.#hasAnswer = true
    this.#status = head.status
    this.#replay.drop()
    const headers = this.#answerFields(head)
    this.#job.exchange.respond(head.status, head.reason, headers, lengthOf(head, this.#job.outgoing.method))
  }

  #answerFields(head: ResponseHead): HeaderFields {
    const fields = this.#job.shapeAnswer(head)
    if (this.#setCookie === undefined) return fields
    const own = fields.copy()
    own.add('set-cookie', 'set-cookie', this.#setCookie)
    return own
  }

  onData(chunk: Buffer): void {
    this.#bytesOut += chunk.length
    if (!this.#job.exchange.write(chunk)) this.#upstream?.pause()
  }

  onEnd(trailers: HeaderFields | undefined): void {
    this.#upstream = undefined
    this.#job.exchange.end(trailersOf(trailers))
    this.#end(this.#status, false)
  }

  onUpgrade(head: ResponseHead, stream: ByteStream): void {
    this.#clearTimers()
    this.#hasAnswer = true
    this.#status = 101
    const headers = this.#job.shapeAnswer(head).copy()
    headers.set('upgrade', 'upgrade', 'websocket')
    const client = this.#job.exchange.upgrade(head.reason, headers)
    void splice(client, stream, new AbortController().signal).then(({ bytesToUpstream, bytesToDownstream }) => {
      this.#bytesIn += bytesToUpstream
      this.#bytesOut += bytesToDownstream
      this.#end(101, false)
    })
  }

  onDrain(): void {
    if (!this.#isRequestComplete) this.#job.exchange.resume()
  }

  onError(error: UpstreamError): void {
    this.#upstream = undefined
    clearTimeout(this.#tryTimer)
    if (this.#hasAnswer) {
      this.#job.exchange.abort()
      this.#end(this.#status, false, error.message)
      return
    }
    if (this.#isStale(error)) {
      this.#staleRetries += 1
      this.#release()
      void this.#dial()
      return
    }
    this.#countFailure()
    this.#tryAgainOr({ kind: 'error', error }, 502, `${this.#backendId()}: ${error.message}`)
  }

  /** A kept connection that the backend closed just now: it has most likely not seen the request. */
  #isStale({ failure, wasReused }: UpstreamError): boolean {
    if (!this.#replay.isWhole || this.#staleRetries >= mostStaleRetries) return false
    return failure === 'refused' || (failure === 'reset-before-answer' && wasReused && this.#isRepeatable)
  }

  #connect(): void {
    const idle = this.#attempts.takeIdle(this.#isRepeatable && this.#replay.isWhole)
    if (idle !== undefined) this.#send(idle)
    else void this.#dial()
  }

  async #dial(): Promise<void> {
    const dialled = await this.#attempts.dial()
    if (!('problem' in dialled)) {
      if (this.#isDone) this.#giveBack(dialled)
      else this.#send(dialled)
      return
    }
    if (!this.#isDone) this.#tryAgainOr({ kind: 'unreachable' }, 503, dialled.problem)
  }

  /** The client went away while its connection was made. */
  #giveBack({ connection, hold }: Connected): void {
    hold[Symbol.dispose]()
    connection.release()
  }

  #send(connected: Connected): void {
    this.#connected = connected
    const { outgoing, retries, exchange } = this.#job
    if (retries?.perTryTimeoutMs !== undefined) {
      this.#tryTimer = setTimeout(() => this.#onTryTimeout(), retries.perTryTimeoutMs)
    }
    const upstream = connected.connection.send(outgoing, this)
    this.#upstream = upstream
    for (const chunk of this.#replay.chunks) upstream.write(chunk)
    if (this.#replay.isFull) this.#replay.drop()
    if (this.#isRequestComplete) upstream.end(this.#requestTrailers)
    else exchange.resume()
  }

  #onTryTimeout(): void {
    this.#upstream?.cancel()
    this.#upstream = undefined
    this.#countFailure()
    const limit = this.#job.retries?.perTryTimeoutMs ?? 0
    this.#tryAgainOr({ kind: 'timeout' }, 504, `${this.#backendId()}: no answer within ${limit} ms`)
  }

  #onTimeout(timeoutMs: number): void {
    this.#attempts.stop()
    this.#upstream?.cancel()
    this.#upstream = undefined
    const problem = `${this.#backendId()}: the answer was not complete within ${timeoutMs} ms`
    if (this.#hasAnswer) this.#job.exchange.abort()
    this.#end(this.#hasAnswer ? this.#status : 504, !this.#hasAnswer, problem)
  }

  #tryAgainOr(outcome: AttemptOutcome, status: number, problem: string): void {
    if (this.#mayRepeat() && this.#retriesLeft() && wantsRetry(this.#job.retries, outcome)) this.#retry()
    else this.#end(status, true, problem)
  }

  #mayRepeat(): boolean {
    return this.#replay.isWhole && !this.#job.outgoing.isUpgrade
  }

  #retriesLeft(): boolean {
    return this.#retries < (this.#job.retries?.attempts ?? 0)
  }

  #retry(): void {
    this.#upstream = undefined
    this.#retries += 1
    this.#release()
    this.#attempts.nextRound()
    this.#tryTimer = setTimeout(() => this.#connect(), retryPauseMs(this.#retries, this.#surroundings.random))
  }

  /** With outlier detection a backend is also judged by what it answers. */
  #judge({ status }: ResponseHead): void {
    const { backend } = this.#connected ?? {}
    if (backend === undefined) return
    if (status >= 500 && this.#job.group.policy.outlierDetection !== undefined) this.#attempts.failed(backend)
    else this.#attempts.succeeded(backend)
  }

  #countFailure(): void {
    const { backend } = this.#connected ?? {}
    if (backend !== undefined) this.#attempts.failed(backend)
  }

  #backendId(): string {
    const { backend } = this.#attempts
    return backend === undefined ? this.#job.group.id : backendIdOf(backend)
  }

  #release(): void {
    this.#connected?.hold[Symbol.dispose]()
    this.#connected = undefined
  }

  #clearTimers(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#tryTimer)
  }

  #end(status: number, mustAnswer: boolean, problem?: string): void {
    if (this.#isDone) return
    this.#isDone = true
    this.#clearTimers()
    this.#release()
    this.#upstream = undefined
    this.#replay.drop()
    const { backend: tried, tries } = this.#attempts
    const backend = tried === undefined ? undefined : backendIdOf(tried)
    const [bytesIn, bytesOut] = [this.#bytesIn, this.#bytesOut]
    this.#job.onEnd({ status, backend, bytesIn, bytesOut, tries, problem, mustAnswer })
  }
}

/** Listens to the client. */
class ClientSide implements ExchangeListener {
  readonly #forward: Forward
  readonly #exchange: Exchange

  constructor(forward: Forward, exchange: Exchange) {
    this.#forward = forward
    this.#exchange = exchange
  }

  onData(chunk: Buffer): void {
    if (!this.#forward.takeBody(chunk)) this.#exchange.pause()
  }

  onEnd(trailers: HeaderFields | undefined): void {
    this.#forward.takeEnd(trailers)
  }

  onGone(): void {
    this.#forward.clientGone()
  }

  onDrain(): void {
    this.#forward.clientDrained()
  }
}

/** A trailer about framing or routing means nothing where it stands, and may to whoever merges it into the head. */
function trailersOf(came: HeaderFields | undefined): HeaderFields | undefined {
  return came && endToEndFields(came, (lowerName) => lowerName === 'host')
}

/** The length to announce; an answer to HEAD announces that of the body which it lacks. */
function lengthOf({ body, headers }: ResponseHead, method: string): number | undefined {
  if (body.kind === 'length') return body.length
  const written = method === 'HEAD' ? headers.get('content-length') : undefined
  return written !== undefined && /^\d{1,15}$/.test(written) ? Number(written) : undefined
}
