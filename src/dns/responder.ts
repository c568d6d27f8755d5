import type { Catalog } from '../catalog/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../observability/index.ts'
import { ClusterZones } from './cluster-zones.ts'
import type { DnsConfig } from './config.ts'
import { rcode } from './constants.ts'
import { renderForwarded } from './forwarded-response.ts'
import type { Forwarder, TimedResponse } from './forwarder.ts'
import { HotAnswers } from './hot-answers.ts'
import { followOutside } from './outside-name.ts'
import { type DropReason, parseQuery, type Query, udpLimitOf } from './query.ts'
import { rotated } from './records.ts'
import { renderAnswer, renderCode, unsupportedCodeOf } from './render-response.ts'
import type { AddressOfEndpoint } from './service-records.ts'
import type { Transport } from './upstream-exchange.ts'
import { isInDomain } from './zone.ts'

/** What answers are made from. */
export interface ResponderOptions {
  readonly config: DnsConfig
  readonly address: string
  readonly catalog: Catalog
  readonly logger: Logger
  readonly metrics: Metrics
  readonly forwarder: Forwarder
  /** True while questions about the cluster go to its own DNS, as the cache mode wants. */
  readonly isCacheOnly?: () => boolean
  readonly addressOfEndpoint?: AddressOfEndpoint | undefined
  /** 0 to below 1; for the order of answers. */
  readonly random?: () => number
}

/** A message to send, now or later, or undefined for none. */
type Response = Promise<Buffer | undefined> | Buffer | undefined

/** One question with all that its answer depends on. */
interface Asked {
  readonly query: Query
  readonly message: Buffer
  readonly limitBytes: number
  readonly transport: Transport
}

const tcpLimitBytes = 0xffff

/** Counts are passed on this often: one by one they cost as much as the answer. */
const countEveryMs = 1000

/** Turns a client's message into the response; knows no sockets. */
export class Responder implements Disposable {
  readonly #options: ResponderOptions
  readonly #subscription: Disposable
  readonly #dropped: Counter
  readonly #queries: Counter
  readonly #domains: readonly string[]
  readonly #hot = new HotAnswers()
  #hotCount = 0
  #counting: NodeJS.Timeout | undefined
  #zones: ClusterZones

  constructor(options: ResponderOptions) {
    this.#options = options
    const { catalog, config, address, metrics, addressOfEndpoint } = options
    this.#domains = [config.clusterDomain, ...config.moreClusterDomains]
    const { ttlSeconds } = config
    const zonesOptions = { domains: this.#domains, ttlSeconds, serverAddress: address, addressOfEndpoint }
    this.#dropped = metrics.counter('dns_dropped_total', 'Messages to DNS without an answer', ['reason'])
    this.#queries = metrics.counter('dns_queries_total', 'Questions to DNS by how they were answered', ['via'])
    this.#zones = new ClusterZones(catalog.current, zonesOptions)
    this.#subscription = catalog.subscribe((snapshot) => {
      this.#zones = new ClusterZones(snapshot, zonesOptions)
      this.#hot.clear()
    })
  }

  /** Answers a UDP message through `send`, which is called once or, for a dropped message, not at all. */
  answerDatagram(message: Buffer, send: (response: Buffer) => void): void {
    const hot = this.#hot.get(message)
    if (hot !== undefined) {
      this.#countHot()
      send(hot)
      return
    }
    const response = this.#respond(message, 'udp')
    if (response instanceof Promise) void response.then((late) => late && send(late))
    else if (response !== undefined) send(response)
  }

  /** Answers a TCP message; undefined for one to drop. */
  answerMessage(message: Buffer): Response {
    return this.#respond(message, 'tcp')
  }

  [Symbol.dispose](): void {
    this.#subscription[Symbol.dispose]()
    clearTimeout(this.#counting)
  }

  /** Never throws or rejects: whatever a message sets off, the next one is answered. */
  #respond(message: Buffer, transport: Transport): Response {
    try {
      const response = this.#decide(message, transport)
      return response instanceof Promise ? response.catch((error: unknown) => this.#giveUp(error)) : response
    } catch (error) {
      return this.#giveUp(error)
    }
  }

  #decide(message: Buffer, transport: Transport): Response {
    const query = parseQuery(message)
    if ('drop' in query) return this.#drop(query.drop)
    if ('rcode' in query) {
      this.#queries.add(1, { via: 'refusal' })
      return renderCode(query, query.rcode)
    }
    const unsupported = unsupportedCodeOf(query)
    if (unsupported !== undefined) return renderCode(query, unsupported)
    if (this.#options.forwarder.isOwnQuestion(query)) return renderCode(query, rcode.nameError)
    const limitBytes = transport === 'udp' ? udpLimitOf(query) : tcpLimitBytes
    const asked = { query, message, limitBytes, transport }
    if (this.#options.isCacheOnly?.()) return this.#forward(asked, () => this.#answerFromCatalog(asked))
    return this.#answerFromCatalog(asked) ?? this.#forward(asked, () => undefined)
  }

  #answerFromCatalog(asked: Asked): Response {
    const { query, message, limitBytes, transport } = asked
    if (!this.#options.catalog.isSynced) {
      // An empty catalog knows nothing, which is not the same as knowing that a name does not exist.
      return this.#domains.some((domain) => isInDomain(query.name, domain)) ? this.#failure(query) : undefined
    }
    const answer = this.#zones.answer(query)
    if (answer === undefined) return undefined
    this.#queries.add(1, { via: 'catalog' })
    if (answer.continuesAt !== undefined) {
      return followOutside(query, answer, this.#resolverOver(transport)).then((whole) =>
        renderAnswer(query, whole, limitBytes),
      )
    }
    const turn = answer.isShuffled ? this.#hot.turnOf(message, this.#options.random ?? Math.random) : 0
    const response = renderAnswer(query, rotated(answer, turn), limitBytes)
    const count = answer.isShuffled ? answer.answers.length : 1
    if (transport === 'udp') this.#hot.add(message, query, response, { count, turn })
    return response
  }

  /** What others say, or else `instead`, or else a failure. */
  #forward({ query, message, limitBytes, transport }: Asked, instead: () => Response): Response {
    const { forwarder } = this.#options
    const cached = forwarder.cached(query)
    if (cached !== undefined) {
      this.#queries.add(1, { via: 'cache' })
      const response = renderForwarded(cached.response, query, { ...cached, limitBytes })
      if (transport === 'udp') this.#hot.add(message, query, response)
      return response
    }
    this.#queries.add(1, { via: 'upstream' })
    return forwarder.resolve(query, transport).then((found) => {
      if (found?.isStale) this.#queries.add(1, { via: 'stale' })
      const own = isOf(found) ? undefined : instead()
      if (own !== undefined) return own
      return found === undefined
        ? this.#failure(query)
        : renderForwarded(found.response, query, { ...found, limitBytes })
    })
  }

  #resolverOver(transport: Transport) {
    const { forwarder } = this.#options
    return async (query: Query) => {
      const found = forwarder.cached(query) ?? (await forwarder.resolve(query, transport))
      return found && renderForwarded(found.response, query, { ...found, limitBytes: tcpLimitBytes })
    }
  }

  #failure(query: Query): Buffer {
    this.#queries.add(1, { via: 'failure' })
    return renderCode(query, rcode.serverFailure)
  }

  #giveUp(error: unknown): undefined {
    this.#options.logger.debug({ reason: describeError(error) }, 'a question set off an error')
    return this.#drop('internal')
  }

  #drop(reason: DropReason | 'internal'): undefined {
    this.#dropped.add(1, { reason })
    return undefined
  }

  #countHot(): void {
    this.#hotCount++
    this.#counting ??= setTimeout(() => {
      this.#queries.add(this.#hotCount, { via: 'hot' })
      this.#hotCount = 0
      this.#counting = undefined
    }, countEveryMs).unref()
  }
}

/** True when the response says something about the name, rather than about the one who was asked. */
function isOf(found: TimedResponse | undefined): boolean {
  return found !== undefined && [rcode.noError as number, rcode.nameError].includes(found.response.rcode)
}
