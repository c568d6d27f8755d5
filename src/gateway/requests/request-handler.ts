import type { ForwardAction, HeaderChanges, HttpRule, RedirectAction, VirtualService } from '../../model/index.ts'
import type { ConnectionPool } from '../backends/connection-pool.ts'
import type { BackendGroup, Destinations } from '../backends/destinations.ts'
import type { Exchange, ExchangeHandler } from '../http/exchange.ts'
import { isGrpcRequest, type RequestHead, type ResponseHead } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest } from '../http/upstream.ts'
import { chooseByWeight, chooseRoute } from '../routing/choose-route.ts'
import { hostOf } from '../routing/host-pattern.ts'
import type { RoutableRequest } from '../routing/http-matcher.ts'
import { parseRequestPath, type RequestPath } from '../routing/request-path.ts'
import type { HttpHosts, HttpRoute } from '../routing/route-table.ts'
import { addCorsFields, type CorsDecision, decideCors } from './cors.ts'
import { Forward, type ForwardEnd, type RequestCopy } from './forward.ts'
import { changeHeaders, changesHeaders, endToEndFields } from './header-changes.ts'
import { answerGrpc, answerLocally, type LocalAnswer } from './local-answer.ts'
import { mirrorRequest } from './mirror.ts'
import { type ForwardingHabits, outgoingRequestOf } from './outgoing-request.ts'
import { locationOf } from './redirect.ts'

/** What handling requests needs, for all listeners. */
export interface HandlerSurroundings {
  readonly destinations: Destinations
  readonly pool: ConnectionPool
  readonly habits: ForwardingHabits
  readonly random: () => number
  readonly nowMs: () => number
  readonly dialTimeoutMs: number
  /** Is told how each request went. */
  readonly onDone: (record: RequestRecord) => void
}

/** Where requests of one connection arrive. */
export interface RequestPlace {
  /** The hosts as they are now; asked for each request. */
  readonly hosts: () => HttpHosts
  /** True when another certificate of the port serves that host. */
  readonly isServedElsewhere: (host: string) => boolean
}

/** How a request went, for the access log and the metrics. */
export interface RequestRecord {
  readonly exchange: Exchange
  /** `namespace/name/rule`; empty when no rule took the request. */
  readonly route: string
  readonly status: number
  readonly backend?: string | undefined
  readonly bytesIn: number
  readonly bytesOut: number
  readonly tries: number
  readonly durationMs: number
  readonly problem?: string | undefined
}

/** A handler that routes requests. */
export function createRequestHandler(place: RequestPlace, surroundings: HandlerSurroundings): ExchangeHandler {
  return (exchange) => new RoutedRequest(exchange, place, surroundings).handle()
}

const root: RequestPath = { path: '/', query: '' }

/** One request on its way through the rules. */
class RoutedRequest implements RoutableRequest {
  readonly #exchange: Exchange
  readonly #place: RequestPlace
  readonly #surroundings: HandlerSurroundings
  readonly #startedAt: number
  #route = ''
  #target: RequestPath = root

  constructor(exchange: Exchange, place: RequestPlace, surroundings: HandlerSurroundings) {
    this.#exchange = exchange
    this.#place = place
    this.#surroundings = surroundings
    this.#startedAt = surroundings.nowMs()
  }

  get method(): string {
    return this.#exchange.request.method
  }

  get scheme(): 'http' | 'https' {
    return this.#exchange.request.scheme
  }

  get authority(): string {
    return this.#exchange.request.authority
  }

  get target(): RequestPath {
    return this.#target
  }

  header(name: string): string | undefined {
    return name === 'host' ? this.authority : this.#exchange.request.headers.joined(name)
  }

  handle(): void {
    const { request } = this.#exchange
    const target = parseRequestPath(request.target)
    if (target === undefined) {
      this.#answer({ status: 400, reason: 'the path leaves the root' })
      return
    }
    if (request.version === '1.1' && isGrpcRequest(this.#exchange.request)) {
      this.#answer({
        status: 426,
        reason: 'gRPC needs HTTP/2; use it with prior knowledge, or TLS with ALPN h2',
        headers: HeaderFields.of({ upgrade: 'h2c' }),
      })
      return
    }
    this.#choose(target)
  }

  #choose(target: RequestPath): void {
    const { request } = this.#exchange
    this.#target = target
    const choice = chooseRoute(this.#place.hosts(), this)
    switch (choice.kind) {
      case 'route':
        this.#route = choice.route.id
        this.#obey(choice.route, target, choice.matchedPrefix)
        return
      case 'redirect-to-https':
        this.#redirectToHttps()
        return
      case 'unknown-host':
        this.#refuseHost(hostOf(request.authority))
        return
      case 'no-rule': {
        const asked = `${request.method} ${hostOf(request.authority)}${target.path}`
        this.#answer({
          status: 404,
          reason: `no rule of a VirtualService for host ${choice.host.pattern} matches ${asked}`,
        })
        return
      }
      default:
        choice satisfies never
    }
  }

  #refuseHost(host: string): void {
    const isElsewhere = this.#place.isServedElsewhere(host)
    this.#answer(
      isElsewhere
        ? { status: 421, reason: `host ${host} has another certificate; ask on a connection of its own` }
        : { status: 404, reason: `no Gateway on this port serves host ${host}` },
    )
  }

  #redirectToHttps(): void {
    const { request } = this.#exchange
    const host = request.authority.replace(/:\d+$/, '')
    const headers = HeaderFields.of({ location: `https://${host}${request.target}` })
    this.#answer({ status: 301, reason: 'https only', headers })
  }

  #obey({ rule, virtualService }: HttpRoute, target: RequestPath, matchedPrefix: string | undefined): void {
    const cors = decideCors(rule.cors, this.#exchange.request)
    if (cors.kind === 'preflight') {
      this.#answer({ status: 200, reason: 'preflight', headers: cors.headers })
      return
    }
    const step = { rule, virtualService, target, matchedPrefix, cors }
    const delay = rule.fault?.delay
    if (delay !== undefined && this.#draws(delay.percent)) setTimeout(() => this.#act(step), delay.delayMs)
    else this.#act(step)
  }

  #act(step: Step): void {
    const { rule } = step
    const { abort } = rule.fault ?? {}
    if (abort !== undefined && this.#draws(abort.percent)) {
      this.#abort(abort.status, abort.grpcStatus)
      return
    }
    const { action } = rule
    switch (action.kind) {
      case 'forward':
        this.#forward(action, step)
        return
      case 'redirect':
        this.#redirect(action, step)
        return
      case 'answer':
        this.#answerDirectly(action.status, action.body, step)
        return
      case 'broken':
        this.#answer({ status: 503, reason: `rule ${this.#route} cannot be followed: ${action.reason}` })
        return
      default:
        action satisfies never
    }
  }

  #abort(status: number, grpcStatus: number | undefined): void {
    const problem = 'aborted by the fault of the rule'
    if (grpcStatus === undefined) {
      this.#answer({ status, reason: problem })
      return
    }
    answerGrpc(this.#exchange, new HeaderFields(), grpcStatus, problem)
    this.#done({ ...nothingSent, status: 200, problem })
  }

  #redirect(action: RedirectAction, { target, matchedPrefix, rule, cors }: Step): void {
    const headers = HeaderFields.of({ location: locationOf(action, this.#exchange, target, matchedPrefix) })
    this.#shape(headers, rule, cors)
    this.#answer({ status: action.status, reason: 'redirect', headers })
  }

  #answerDirectly(status: number, body: string, { rule, cors }: Step): void {
    const headers = new HeaderFields()
    this.#shape(headers, rule, cors)
    this.#answer({ status, reason: 'direct response', headers, body: Buffer.from(body, 'base64') })
  }

  #shape(headers: HeaderFields, rule: HttpRule, cors: CorsDecision): void {
    changeHeaders(headers, rule.headers.response)
    addCorsFields(headers, cors)
  }

  #forward(action: ForwardAction, step: Step): void {
    const { destinations, pool, random, habits, dialTimeoutMs } = this.#surroundings
    const { rule, virtualService, target, matchedPrefix, cors } = step
    const destination = chooseByWeight(action.destinations, random())
    if (destination === undefined) {
      this.#answer({ status: 503, reason: `rule ${this.#route} has no destination` })
      return
    }
    const group = destinations.resolve(destination, virtualService.namespace, true)
    if ('problem' in group) {
      this.#answer({ status: 503, reason: group.problem })
      return
    }
    const changes = [rule.headers, destination.headers]
    const plan = { target, matchedPrefix, rewrite: action.rewrite, changes, habits }
    const outgoing = outgoingRequestOf(this.#exchange, plan)
    const job = {
      exchange: this.#exchange,
      group: groupFor(this.#exchange.request, group),
      outgoing,
      timeoutMs: action.timeoutMs,
      retries: action.retries,
      shapeAnswer: ({ headers }: ResponseHead) => answerFieldsOf(headers, changes, cors),
      copies: action.mirrors.length === 0 ? [] : this.#copies(action.mirrors, virtualService.namespace, outgoing),
      onEnd: (end: ForwardEnd) => this.#onForwarded(end),
    }
    new Forward(job, { pool, random, dialTimeoutMs }).start()
  }

  #copies(mirrors: ForwardAction['mirrors'], namespace: string, outgoing: OutgoingRequest): RequestCopy[] {
    const { destinations, pool, dialTimeoutMs } = this.#surroundings
    return mirrors
      .filter(({ percent }) => this.#draws(percent))
      .flatMap((mirror) => {
        const group = destinations.resolve(mirror, namespace, true)
        return 'problem' in group ? [] : [mirrorRequest(group, outgoing, pool, dialTimeoutMs)]
      })
  }

  #onForwarded(end: ForwardEnd): void {
    if (end.mustAnswer) answerLocally(this.#exchange, { status: end.status, reason: end.problem ?? 'no answer' })
    this.#done(end)
  }

  #answer(answer: LocalAnswer): void {
    answerLocally(this.#exchange, answer)
    const { status, reason } = answer
    this.#done({ ...nothingSent, status, problem: status >= 400 ? reason : undefined })
  }

  #draws(percent: number): boolean {
    return percent >= 100 || (percent > 0 && this.#surroundings.random() * 100 < percent)
  }

  #done({ status, backend, bytesIn, bytesOut, tries, problem }: Omit<ForwardEnd, 'mustAnswer'>): void {
    const { onDone, nowMs } = this.#surroundings
    const durationMs = nowMs() - this.#startedAt
    const exchange = this.#exchange
    onDone({ exchange, route: this.#route, status, backend, bytesIn, bytesOut, tries, durationMs, problem })
  }
}

const nothingSent = { backend: undefined, bytesIn: 0, bytesOut: 0, tries: 0 } as const

/** A rule that was chosen for a request. */
interface Step {
  readonly rule: HttpRule
  readonly virtualService: VirtualService
  readonly target: RequestPath
  readonly matchedPrefix: string | undefined
  readonly cors: CorsDecision
}

/** gRPC is spoken in HTTP/2 and WebSocket in HTTP/1.1, whatever the port is called. */
function groupFor(request: RequestHead, group: BackendGroup): BackendGroup {
  const isGrpc = request.version === '2' && isGrpcRequest(request)
  const protocol = request.isUpgrade ? 'http1' : isGrpc ? 'http2' : group.protocol
  return protocol === group.protocol ? group : { ...group, protocol }
}

/** The fields of an answer as the client gets them; not to be changed, because answers with the same head share them. */
function answerFieldsOf(came: HeaderFields, changes: readonly HeaderChanges[], cors: CorsDecision): HeaderFields {
  came.forwarded ??= endToEndFields(came, keepsAll)
  if (cors.kind !== 'allow' && !changes.some(({ response }) => changesHeaders(response))) return came.forwarded
  const fields = came.forwarded.copy()
  for (const { response } of changes) changeHeaders(fields, response)
  addCorsFields(fields, cors)
  return fields
}

const keepsAll = () => false
