import type { Catalog } from '../catalog/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../observability/index.ts'
import { ClusterZones } from './cluster-zones.ts'
import type { DnsConfig } from './config.ts'
import { rcode } from './constants.ts'
import { renderForwarded } from './forwarded-response.ts'
import type { Forwarder, Transport } from './forwarder.ts'
import { followOutside } from './outside-name.ts'
import { type DropReason, parseQuery, type Query, udpLimitOf } from './query.ts'
import type { Answer } from './records.ts'
import { renderAnswer, renderCode, unsupportedCodeOf } from './render-response.ts'
import type { AddressOfEndpoint } from './service-records.ts'
import { isInDomain } from './zone.ts'

/** What answers are made from. */
export interface ResponderOptions {
  readonly config: DnsConfig
  readonly address: string
  readonly catalog: Catalog
  readonly logger: Logger
  readonly metrics: Metrics
  readonly forwarder: Forwarder
  readonly addressOfEndpoint?: AddressOfEndpoint | undefined
  /** 0 to below 1; for the order of answers. */
  readonly random?: () => number
}

/** A message to send, now or later, or undefined for none. */
type Response = Promise<Buffer | undefined> | Buffer | undefined

const tcpLimitBytes = 0xffff

/** Turns a client's message into the response; knows no sockets. */
export class Responder implements Disposable {
  readonly #options: ResponderOptions
  readonly #subscription: Disposable
  readonly #dropped: Counter
  readonly #queries: Counter
  readonly #domains: readonly string[]
  #zones: ClusterZones

  constructor(options: ResponderOptions) {
    this.#options = options
    const { catalog, config, address, metrics } = options
    this.#domains = [config.clusterDomain, ...config.moreClusterDomains]
    const { addressOfEndpoint } = options
    const zonesOptions = {
      domains: this.#domains,
      ttlSeconds: config.ttlSeconds,
      serverAddress: address,
      addressOfEndpoint,
    }
    this.#dropped = metrics.counter('dns_dropped_total', 'Messages to DNS without an answer', ['reason'])
    this.#queries = metrics.counter('dns_queries_total', 'Questions to DNS by how they were answered', ['via'])
    this.#zones = new ClusterZones(catalog.current, zonesOptions)
    this.#subscription = catalog.subscribe((snapshot) => {
      this.#zones = new ClusterZones(snapshot, zonesOptions)
    })
  }

  /** Answers a UDP message through `send`, which is called once or, for a dropped message, not at all. */
  answerDatagram(message: Buffer, send: (response: Buffer) => void): void {
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
    const limitBytes = transport === 'udp' ? udpLimitOf(query) : tcpLimitBytes
    return this.#answerFromCatalog(query, limitBytes, transport) ?? this.#forward(query, limitBytes, transport)
  }

  #answerFromCatalog(query: Query, limitBytes: number, transport: Transport): Response {
    const { catalog } = this.#options
    if (!catalog.isSynced) {
      // An empty catalog knows nothing, which is not the same as knowing that a name does not exist.
      return this.#domains.some((domain) => isInDomain(query.name, domain)) ? this.#failure(query) : undefined
    }
    const answer = this.#zones.answer(query)
    if (answer === undefined) return undefined
    this.#queries.add(1, { via: 'catalog' })
    if (answer.continuesAt === undefined) return renderAnswer(query, this.#shuffled(answer), limitBytes)
    return followOutside(query, answer, this.#resolverOver(transport)).then((whole) =>
      renderAnswer(query, whole, limitBytes),
    )
  }

  #forward(query: Query, limitBytes: number, transport: Transport): Response {
    const cached = this.#options.forwarder.cached(query)
    if (cached !== undefined) {
      this.#queries.add(1, { via: 'cache' })
      return renderForwarded(cached.response, query, { ageSeconds: cached.ageSeconds, limitBytes })
    }
    this.#queries.add(1, { via: 'upstream' })
    return this.#options.forwarder.resolve(query, transport).then((response) => {
      if (response === undefined) return this.#failure(query)
      return renderForwarded(response, query, { ageSeconds: 0, limitBytes })
    })
  }

  #resolverOver(transport: Transport) {
    const { forwarder } = this.#options
    return async (query: Query) => {
      const cached = forwarder.cached(query)
      const response = cached?.response ?? (await forwarder.resolve(query, transport))
      const ageSeconds = cached?.ageSeconds ?? 0
      return response && renderForwarded(response, query, { ageSeconds, limitBytes: tcpLimitBytes })
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

  #shuffled(answer: Answer): Answer {
    if (!answer.isShuffled || answer.answers.length < 2) return answer
    const random = this.#options.random ?? Math.random
    const answers = [...answer.answers]
    for (let last = answers.length - 1; last > 0; last--) {
      const other = Math.floor(random() * (last + 1))
      const [left, right] = [answers[last], answers[other]]
      if (left !== undefined && right !== undefined) [answers[last], answers[other]] = [right, left]
    }
    return { ...answer, answers }
  }
}
