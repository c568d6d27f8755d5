import { randomInt } from 'node:crypto'
import { exchangeDatagram, exchangeMessage, type SocketAddress } from '../net/index.ts'
import type { Counter, Logger } from '../observability/index.ts'
import { describeError } from '../observability/index.ts'
import { rcode } from './constants.ts'
import { answersQuery, type ForwardedResponse, parseForwarded, renderUpstreamQuery } from './forwarded-response.ts'
import type { Query } from './query.ts'
import { type CachedResponse, ResponseCache } from './response-cache.ts'
import { Upstreams, type UpstreamsOptions } from './upstreams.ts'

/** How names outside the cluster are resolved. */
export interface ForwarderOptions extends Omit<UpstreamsOptions, 'onChange' | 'now'> {
  readonly logger: Logger
  readonly failures: Counter
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
  /** How long one server may take before the next one is asked. */
  readonly timeoutMs?: number
}

/** The way a client came, which is also the way its question is passed on. */
export type Transport = 'udp' | 'tcp'

const defaultTimeoutMs = 2000
// Clients give up after about five seconds; work for them beyond that is wasted.
const totalMs = 5000
const maxUnderWay = 512
const cacheBounds = { maxEntries: 1000, maxSeconds: 3600 }

/**
 * Asks the upstream resolvers, one after the other, and remembers what they say. Identical questions at the same time
 * become one, which also ends a circle of forwarders that leads back here: the copy waits and times out.
 */
export class Forwarder implements AsyncDisposable {
  readonly #options: ForwarderOptions
  readonly #now: () => number
  readonly #upstreams: Upstreams
  readonly #cache: ResponseCache
  readonly #underWay = new Map<string, Promise<ForwardedResponse | undefined>>()
  readonly #stopping = new AbortController()

  constructor(options: ForwarderOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#cache = new ResponseCache({ ...cacheBounds, now: this.#now })
    this.#upstreams = new Upstreams({ ...options, now: this.#now, onChange: () => this.#cache.clear() })
  }

  /** The resolvers in use, as text. */
  get upstreams(): readonly string[] {
    return this.#upstreams.inUse
  }

  /** What is remembered about a question. */
  cached(query: Query): CachedResponse | undefined {
    return this.#cache.get(keyOf(query))
  }

  /** What the first upstream that knows says; undefined when none says anything. */
  async resolve(query: Query, transport: Transport): Promise<ForwardedResponse | undefined> {
    const key = keyOf(query)
    const shared = this.#underWay.get(key)
    if (shared !== undefined) return shared
    if (this.#underWay.size >= maxUnderWay || this.#stopping.signal.aborted) return undefined
    const asking = this.#ask(query, transport)
    this.#underWay.set(key, asking)
    try {
      const response = await asking
      if (response !== undefined) this.#cache.set(key, response)
      return response
    } finally {
      this.#underWay.delete(key)
    }
  }

  /** Ends what is under way; its askers get nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('stopping'))
    await Promise.allSettled(this.#underWay.values())
  }

  async #ask(query: Query, transport: Transport): Promise<ForwardedResponse | undefined> {
    const deadline = this.#now() + totalMs
    let refusal: ForwardedResponse | undefined
    for (const server of await this.#upstreams.inOrder()) {
      if (this.#now() >= deadline || this.#stopping.signal.aborted) break
      const response = await this.#askServer(server, query, transport)
      if (response === undefined) continue
      if (response.rcode === rcode.noError || response.rcode === rcode.nameError) return response
      // Another server may be able to: this one has a problem of its own, or will not serve us.
      refusal ??= response
    }
    return refusal
  }

  async #askServer(server: SocketAddress, query: Query, transport: Transport): Promise<ForwardedResponse | undefined> {
    try {
      const response = await this.#exchange(server, query, transport)
      this.#upstreams.answered(server)
      return response
    } catch (error) {
      if (this.#stopping.signal.aborted) return undefined
      this.#upstreams.failed(server)
      this.#options.failures.add()
      const fields = { address: `${server.address}:${server.port}`, reason: describeError(error) }
      this.#options.logger.debug(fields, 'an upstream resolver did not answer')
      return undefined
    }
  }

  async #exchange(server: SocketAddress, query: Query, transport: Transport): Promise<ForwardedResponse> {
    if (transport === 'tcp') return this.#exchangeOver(exchangeMessage, server, query)
    const response = await this.#exchangeOver(exchangeDatagram, server, query)
    if (!response.isTruncated) return response
    // Some answer part is better than none where TCP to resolvers is blocked.
    return this.#exchangeOver(exchangeMessage, server, query).catch(() => response)
  }

  async #exchangeOver(
    exchange: typeof exchangeDatagram,
    server: SocketAddress,
    query: Query,
  ): Promise<ForwardedResponse> {
    const id = randomInt(0x10000)
    let response: ForwardedResponse | undefined
    await exchange(server, renderUpstreamQuery(query, id), {
      timeoutMs: this.#options.timeoutMs ?? defaultTimeoutMs,
      signal: this.#stopping.signal,
      accept(message) {
        response = answersQuery(message, query, id) ? parseForwarded(message, query) : undefined
        return response !== undefined
      },
    })
    if (response === undefined) throw new Error('the exchange ended without an accepted answer')
    return response
  }
}

/** Equal for questions that have the same answer: what the client says of DNSSEC and EDNS shapes it. */
function keyOf({ name, type, flags, edns }: Query): string {
  return `${type} ${flags & 0x0030} ${edns === undefined ? '-' : edns.dnssecOk} ${name}`
}
