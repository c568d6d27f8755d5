import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request as requestHttp } from 'node:http'
import { Agent as HttpsAgent, request as requestHttps } from 'node:https'
import { pipeline, type Readable } from 'node:stream'
import { urlToHttpOptions } from 'node:url'
import { createGunzip } from 'node:zlib'
import type { ApiAccess, ApiConnection } from './access/access.ts'
import { ApiStatusError } from './errors.ts'
import { TimeLimits } from './time-limits.ts'
import type { TokenBucket } from './token-bucket.ts'

/** How long a request may take. */
export interface RequestTimeouts {
  /** Until connected, TLS included. */
  readonly connectMs: number
  /** Until the server begins to answer. */
  readonly answerMs: number
  /** Without a byte of the answer; a watch may be silent as long as it likes. */
  readonly idleMs: number
  /** For all of it, however steadily it trickles. */
  readonly totalMs: number
}

/** One GET, or one PATCH. */
export interface ApiRequest {
  /** Below the server's URL, with a leading slash. */
  readonly path: string
  readonly query: Readonly<Record<string, string>>
  /** Sent as a merge patch (RFC 7386) of what is there, instead of asking for it. */
  readonly patch?: unknown
  /** A stream of events, which is not compressed so that each arrives at once. */
  readonly isWatch?: boolean
  readonly timeouts: RequestTimeouts
  /** Called when the server begins a successful answer. */
  readonly onAnswer?: () => void
}

/** What an API client is made of. */
export interface ApiClientOptions {
  readonly access: ApiAccess
  readonly rate: TokenBucket
  readonly userAgent: string
}

/** Notices within half a minute that the other end is gone without a word, as when a laptop changes networks. */
const keepAliveMs = 15_000
const errorLimitBytes = 64 * 1024

/**
 * Reads from one API server, and patches there: JSON over HTTP/1.1, because every watch has a connection of its own and the node's
 * http module is loaded anyway. Kept connections serve the pages of a list.
 */
export class ApiClient implements Disposable {
  readonly #options: ApiClientOptions
  // Connections with different certificates never mix: an agent keeps them apart by their TLS options.
  readonly #http = new HttpAgent({ keepAlive: true })
  readonly #https = new HttpsAgent({ keepAlive: true })

  constructor(options: ApiClientOptions) {
    this.#options = options
  }

  /**
   * The bytes of an answer. Throws an `ApiStatusError` for an answer that is no success, an `ApiTimeoutError`, the
   * signal's reason or the connection's error. Refused credentials are read anew once.
   */
  async *get(request: ApiRequest, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
    const { isWatch, timeouts } = request
    const what = nameOf(request)
    using limits = new TimeLimits(what, timeouts.totalMs, signal)
    let body: Readable | undefined
    try {
      body = plainBodyOf(await this.#open(request, limits))
      request.onAnswer?.()
      if (isWatch) limits.endStage()
      for await (const chunk of body) {
        if (!isWatch) limits.stage(timeouts.idleMs, `${what}: the next bytes`)
        yield chunk
      }
    } catch (error) {
      limits.signal.throwIfAborted()
      if (error instanceof ApiStatusError) throw error
      throw new Error(`Cannot ${methodOf(request).toLowerCase()} ${request.path}`, { cause: error })
    } finally {
      body?.destroy()
    }
  }

  [Symbol.dispose](): void {
    this.#http.destroy()
    this.#https.destroy()
  }

  async #open(request: ApiRequest, limits: TimeLimits): Promise<IncomingMessage> {
    const { access } = this.#options
    const connection = await limits.race(access.connection())
    const response = await this.#send(request, connection, limits)
    if (response.statusCode !== 401) return await successOf(request, response)
    const fresh = await limits.race(access.refresh())
    if (isSameCaller(fresh, connection)) return await successOf(request, response)
    response.destroy()
    return await successOf(request, await this.#send(request, fresh, limits))
  }

  async #send(request: ApiRequest, connection: ApiConnection, limits: TimeLimits): Promise<IncomingMessage> {
    await this.#options.rate.take(limits.signal)
    const sent = this.#request(request, connection, limits)
    try {
      return await responseTo(sent)
    } catch (error) {
      limits.signal.throwIfAborted()
      // The server closed a kept connection while this request was on its way to it.
      if (!sent.reusedSocket) throw error
      return await responseTo(this.#request(request, connection, limits))
    }
  }

  #request(request: ApiRequest, connection: ApiConnection, limits: TimeLimits) {
    const { path, query, isWatch, timeouts, patch } = request
    const isTls = connection.url.protocol === 'https:'
    limits.stage(timeouts.connectMs, `connecting to ${connection.url.host}`)
    const options = {
      ...urlToHttpOptions(urlOf(connection.url, path, query)),
      method: methodOf(request),
      headers: {
        ...(patch !== undefined && { 'content-type': 'application/merge-patch+json' }),
        accept: 'application/json',
        'accept-encoding': isWatch ? 'identity' : 'gzip',
        'user-agent': this.#options.userAgent,
        ...connection.headers,
      },
      signal: limits.signal,
    }
    const sent = isTls
      ? requestHttps({ ...options, ...connection.tls, agent: this.#https })
      : requestHttp({ ...options, agent: this.#http })
    const connected = () => limits.stage(timeouts.answerMs, `${nameOf(request)}: the answer`)
    sent.on('socket', (socket) => {
      socket.setKeepAlive(true, keepAliveMs)
      if (socket.connecting) socket.once(isTls ? 'secureConnect' : 'connect', connected)
      else connected()
    })
    return patch === undefined ? sent.end() : sent.end(JSON.stringify(patch))
  }
}

function methodOf({ patch }: ApiRequest): 'GET' | 'PATCH' {
  return patch === undefined ? 'GET' : 'PATCH'
}

function nameOf(request: ApiRequest): string {
  return `${methodOf(request)} ${request.path}`
}

function urlOf(base: URL, path: string, query: Readonly<Record<string, string>>): URL {
  const url = new URL(base)
  url.pathname = `${base.pathname.replace(/\/$/, '')}${path}`
  url.search = String(new URLSearchParams(query))
  return url
}

function responseTo(sent: ClientRequest): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    // Stays to take what comes after the answer, which the body's reader is told as well.
    sent.on('error', reject).once('response', resolve)
  })
}

function isSameCaller(one: ApiConnection, other: ApiConnection): boolean {
  return JSON.stringify([one.headers, one.tls]) === JSON.stringify([other.headers, other.tls])
}

async function successOf(request: ApiRequest, response: IncomingMessage): Promise<IncomingMessage> {
  const { statusCode = 0, statusMessage = '', headers } = response
  if (statusCode >= 200 && statusCode < 300) return response
  const seconds = Number(headers['retry-after'])
  const retryAfterMs = Number.isFinite(seconds) ? Math.min(seconds, 120) * 1000 : 0
  const text = (await messageOf(response)) ?? statusMessage
  throw new ApiStatusError(`${methodOf(request).toLowerCase()} ${request.path}`, statusCode, { text, retryAfterMs })
}

/** What a Status object says, or the start of another text. */
async function messageOf(response: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of plainBodyOf(response)) {
    chunks.push(chunk)
    length += chunk.length
    if (length > errorLimitBytes) break
  }
  const text = Buffer.concat(chunks).toString('utf8').trim()
  try {
    const message: unknown = Reflect.get(Object(JSON.parse(text)), 'message')
    return typeof message === 'string' && message !== '' ? message : undefined
  } catch {
    return text === '' ? undefined : text.slice(0, 200)
  }
}

function plainBodyOf(response: IncomingMessage): Readable {
  if (response.headers['content-encoding'] !== 'gzip') return response
  // The reader of the last stream is told of an error in any of them.
  return pipeline(response, createGunzip(), () => {})
}
