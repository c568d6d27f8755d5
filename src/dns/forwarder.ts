import type { SocketAddress } from '../net/index.ts'
import { type Counter, createLoggedTasks, describeError, type Logger } from '../observability/index.ts'
import type { TaskGroup } from '../runtime/index.ts'
import { rcode } from './constants.ts'
import type { ForwardedResponse } from './forwarded-response.ts'
import { answeredElsewhere, hedged } from './hedged.ts'
import type { Query } from './query.ts'
import { parseServer, ResolvConf, textOf } from './resolv-conf.ts'
import { type CachedResponse, ResponseCache } from './response-cache.ts'
import { askUpstream, LoopProbe, type Transport } from './upstream-exchange.ts'
import { Upstreams, type UpstreamsOptions } from './upstreams.ts'
import { isInDomain } from './zone.ts'

/** How names outside the cluster are resolved. */
export interface ForwarderOptions extends Pick<UpstreamsOptions, 'isOwn' | 'probeBackoff'> {
  /** `IP`, `IP:port` or `[IPv6]:port`; when empty, the name servers of `resolvConf`. Asked for every question. */
  readonly servers: () => readonly string[]
  readonly resolvConf: string
  /** Resolvers for the names below a domain, in lower case. */
  readonly stubDomains?: readonly { readonly domain: string; readonly servers: readonly string[] }[]
  /** How long a response is cached at most; an hour unless said. */
  readonly maxCacheSeconds?: number
  readonly logger: Logger
  readonly failures: Counter
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
  /** How long one server may take. */
  readonly timeoutMs?: number
  /** How long a client waits when there is a stale answer for it (RFC 8767: 1.8 s). */
  readonly staleAfterMs?: number
}

/** A response and what a client must know about its time. */
export interface TimedResponse {
  readonly response: ForwardedResponse
  readonly ageSeconds: number
  readonly isStale: boolean
}

const defaultTimeoutMs = 2000
// Clients give up after about five seconds; work for them beyond that is wasted.
const totalMs = 5000
const maxUnderWay = 512
const cacheBounds = { maxEntries: 5000, maxBytes: 8 * 1024 * 1024, maxStaleSeconds: 86_400 }
const hedge = { leastMs: 100, mostMs: 500, unknownMs: 250 }

/**
 * Asks the upstream resolvers, the fastest first and the next one beside it when that takes long, and remembers what
 * they say, also for when none is there. Identical questions at the same time become one.
 */
export class Forwarder implements AsyncDisposable {
  readonly #options: ForwarderOptions
  readonly #cache: ResponseCache
  readonly #underWay = new Map<string, Promise<ForwardedResponse | undefined>>()
  readonly #tasks: TaskGroup
  readonly #probe = new LoopProbe()
  readonly #everything: Upstreams
  /** The longest domains first. */
  readonly #stubs: readonly { readonly domain: string; readonly upstreams: Upstreams }[]

  constructor(options: ForwarderOptions) {
    this.#options = options
    const { logger, servers, resolvConf, stubDomains = [] } = options
    const now = options.now ?? (() => performance.now())
    this.#cache = new ResponseCache({ ...cacheBounds, maxSeconds: options.maxCacheSeconds ?? 3600, now })
    this.#tasks = createLoggedTasks(logger)
    const file = new ResolvConf({ path: resolvConf, logger, now })
    this.#everything = this.#upstreamsFor('names outside the cluster', async () => {
      const configured = servers()
      return configured.length > 0 ? configured.flatMap(parseServer) : await file.servers()
    })
    this.#stubs = stubDomains
      .toSorted((left, right) => right.domain.length - left.domain.length)
      .map(({ domain, servers: list }) => {
        const known = list.flatMap(parseServer)
        return { domain, upstreams: this.#upstreamsFor(`names below ${domain}`, () => Promise.resolve(known)) }
      })
  }

  /** Finds out about the resolvers before the first question does. */
  start(): void {
    this.#tasks.run('look at upstream resolvers', async () => {
      for (const { upstreams } of [{ upstreams: this.#everything }, ...this.#stubs]) await upstreams.inOrder()
    })
  }

  /** The resolvers in use, as text. */
  get upstreams(): readonly string[] {
    return [...this.#everything.inUse, ...this.#stubs.flatMap(({ upstreams }) => upstreams.inUse)]
  }

  /** True for a question of our own that an upstream sent back here. */
  isOwnQuestion(query: Query): boolean {
    return this.#probe.isOwnQuestion(query)
  }

  /** What is remembered about a question and needs nobody's confirmation. */
  cached(query: Query): CachedResponse | undefined {
    const found = this.#cache.get(keyOf(query))
    return found?.isStale ? undefined : found
  }

  /** What the first upstream that knows says, else what one said before; undefined when there is neither. */
  async resolve(query: Query, transport: Transport): Promise<TimedResponse | undefined> {
    const key = keyOf(query)
    const old = this.#cache.get(key)
    const stale = old && { ...old, isStale: true }
    if (stale?.isHopeless) return stale
    const asking = this.#shared(key, query, transport)
    const response = await (stale === undefined ? asking : this.#unlessLate(asking, query))
    if (response === undefined || (stale !== undefined && !isWord(response))) return stale ?? timed(response)
    return timed(response)
  }

  /** Ends what is under way; its askers get nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
    await Promise.allSettled(this.#underWay.values())
  }

  #upstreamsFor(purpose: string, servers: UpstreamsOptions['servers']): Upstreams {
    const { isOwn, logger, probeBackoff, timeoutMs = defaultTimeoutMs } = this.#options
    return new Upstreams({
      servers,
      purpose,
      isOwn,
      logger,
      tasks: this.#tasks,
      probe: (server, signal) => this.#probe.probe(server, { timeoutMs, signal }),
      onChange: () => this.#cache.expire(),
      ...(probeBackoff && { probeBackoff }),
    })
  }

  #groupOf(name: string): Upstreams {
    return this.#stubs.find(({ domain }) => isInDomain(name, domain))?.upstreams ?? this.#everything
  }

  /** The answer, or nothing once it takes longer than a client with a stale answer should wait. */
  async #unlessLate(
    asking: Promise<ForwardedResponse | undefined>,
    query: Query,
  ): Promise<ForwardedResponse | undefined> {
    if (this.#groupOf(query.name).isAllDead) return undefined
    const { promise, resolve } = Promise.withResolvers<undefined>()
    const timer = setTimeout(() => resolve(undefined), this.#options.staleAfterMs ?? 1800)
    try {
      return await Promise.race([asking, promise])
    } finally {
      clearTimeout(timer)
    }
  }

  /** One exchange for all who ask the same; it goes on when they no longer wait. Never rejects. */
  #shared(key: string, query: Query, transport: Transport): Promise<ForwardedResponse | undefined> {
    const shared = this.#underWay.get(key)
    if (shared !== undefined) return shared
    if (this.#underWay.size >= maxUnderWay || this.#tasks.signal.aborted) return Promise.resolve(undefined)
    const asking = this.#ask(query, transport)
      .catch(() => undefined)
      .then((response) => {
        this.#underWay.delete(key)
        if (response !== undefined && isWord(response)) this.#cache.set(key, response)
        else this.#cache.failed(key)
        return response
      })
    this.#underWay.set(key, asking)
    return asking
  }

  async #ask(query: Query, transport: Transport): Promise<ForwardedResponse | undefined> {
    const upstreams = this.#groupOf(query.name)
    const servers = await upstreams.inOrder()
    const [first] = servers
    let isSilent = true
    const attempts = servers.map((server) => async (signal: AbortSignal) => {
      const response = await this.#askServer(upstreams, server, query, { transport, signal })
      isSilent &&= response === undefined
      return response
    })
    if (first !== undefined && transport === 'udp') {
      // Where datagrams do not get through, the other transport may.
      attempts.push(async (signal) => {
        return isSilent ? this.#askServer(upstreams, first, query, { transport: 'tcp', signal }) : undefined
      })
    }
    return hedged(attempts, {
      // TCP beside UDP to the same server would be a second connection for every slow name.
      delayMsOf: (index) => (index < servers.length - 1 ? hedgeMsOf(upstreams, servers[index]) : totalMs),
      // Another server may be able to where one has a problem of its own, or will not serve us.
      isGood: isWord,
      totalMs,
      signal: this.#tasks.signal,
    })
  }

  async #askServer(
    upstreams: Upstreams,
    server: SocketAddress,
    query: Query,
    { transport, signal }: { readonly transport: Transport; readonly signal: AbortSignal },
  ): Promise<ForwardedResponse | undefined> {
    const began = performance.now()
    const tookMs = () => performance.now() - began
    try {
      const timeoutMs = this.#options.timeoutMs ?? defaultTimeoutMs
      const response = await askUpstream(server, query, { transport, timeoutMs, signal })
      upstreams.answered(server, tookMs())
      return response
    } catch (error) {
      const wasSlow = signal.reason === answeredElsewhere && tookMs() >= hedgeMsOf(upstreams, server)
      if (signal.aborted && !wasSlow) return undefined
      upstreams.failed(server, isRefusal(error))
      this.#options.failures.add()
      const fields = { address: textOf(server), reason: describeError(error) }
      this.#options.logger.debug(fields, 'an upstream resolver did not answer')
      return undefined
    }
  }
}

/** An answer, be it that there is none of that name; other codes speak of the server. */
function isWord(response: ForwardedResponse): boolean {
  return response.rcode === rcode.noError || response.rcode === rcode.nameError
}

function timed(response: ForwardedResponse | undefined): TimedResponse | undefined {
  return response && { response, ageSeconds: 0, isStale: false }
}

function isRefusal(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNREFUSED'
}

/** How long a server may take before the next one is asked too: twice the usual time. */
function hedgeMsOf(upstreams: Upstreams, server: SocketAddress | undefined): number {
  const usual = server && upstreams.usualMsOf(server)
  if (usual === undefined) return hedge.unknownMs
  return Math.min(Math.max(2 * usual, hedge.leastMs), hedge.mostMs)
}

/** Equal for questions that have the same answer: what the client says of DNSSEC and EDNS shapes it. */
function keyOf({ name, type, flags, edns }: Query): string {
  return `${type} ${flags & 0x0030} ${edns === undefined ? '-' : edns.dnssecOk} ${name}`
}
