import { type Gateway, type GatewayServer, keyOf, type ObjectKey, type VirtualService } from '../../model/index.ts'
import { type BoundServices, bindVirtualServices, byAge, commonHosts, servicesOf } from './bind.ts'
import { compileHttpRoutes, compileSniRules, compileStreamRules } from './compile-rules.ts'
import { HostMap } from './host-pattern.ts'
import type {
  HttpListenerPlan,
  HttpRoute,
  ListenerPlan,
  ObjectProblem,
  RouteTable,
  TlsListenerPlan,
  TlsServerPlan,
  VirtualHost,
} from './route-table.ts'

/** What a route table is made of. */
export interface RouteTableInput {
  readonly gateways: Iterable<Gateway>
  readonly virtualServices: Iterable<VirtualService>
  /** Labels of this gateway, which a Gateway's selector must be a part of. */
  readonly labels: Readonly<Record<string, string>>
}

/** Folds objects into listeners and routes. The same objects give the same table in any order. */
export function buildRouteTable({ gateways, virtualServices, labels }: RouteTableInput): RouteTable {
  const selected = [...gateways].filter(({ selector }) => isSelected(selector, labels)).sort(byAge)
  const bound = bindVirtualServices(selected, virtualServices)
  const problems: ObjectProblem[] = [...selected.flatMap(wordsOf), ...bound.problems]
  const builders = new Map<string, ListenerBuilder>()
  for (const gateway of selected) {
    for (const server of gateway.servers) {
      const place = `${server.bind ?? ''}|${server.port}`
      const builder = builders.get(place) ?? new ListenerBuilder(server, bound, problems)
      builders.set(place, builder)
      builder.add(gateway, server)
    }
  }
  const listeners = [...builders.values()].map((builder) => builder.build())
  return {
    listeners,
    problems: uniqueProblems(problems),
    gateways: selected,
    virtualServices: bound.all,
    counts: {
      gateways: selected.length,
      virtualServices: bound.all.size,
      rules: [...bound.all].reduce((sum, { http, tls, tcp }) => sum + http.length + tls.length + tcp.length, 0),
    },
  }
}

function isSelected(selector: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value)
}

function wordsOf(gateway: Gateway): ObjectProblem[] {
  const about = { kind: 'Gateway', object: keyOf(gateway) } as const
  return [
    ...gateway.problems.map((message) => ({ ...about, severity: 'error' as const, message })),
    ...gateway.ignored.map((message) => ({ ...about, severity: 'notice' as const, message })),
  ]
}

type Family = ListenerPlan['kind']

/** Gathers the servers of one port. The oldest Gateway decides what the port is for. */
class ListenerBuilder {
  readonly #family: Family
  readonly #port: number
  readonly #bind: string | undefined
  readonly #bound: BoundServices
  readonly #problems: ObjectProblem[]
  readonly #gateways: ObjectKey[] = []
  readonly #http = new HttpHostsBuilder()
  readonly #tls = new HostMap<TlsServerPlan>()
  readonly #tcpGateways: { readonly gateway: Gateway; readonly server: GatewayServer }[] = []

  constructor(first: GatewayServer, bound: BoundServices, problems: ObjectProblem[]) {
    this.#family = familyOf(first)
    this.#port = first.port
    this.#bind = first.bind
    this.#bound = bound
    this.#problems = problems
  }

  add(gateway: Gateway, server: GatewayServer): void {
    const family = familyOf(server)
    if (family !== this.#family) {
      const other = this.#gateways[0] ?? 'another server'
      this.#complain(gateway, `port ${server.port} is used for ${this.#family} by Gateway ${other}, which is older`)
      return
    }
    if (!this.#gateways.includes(keyOf(gateway))) this.#gateways.push(keyOf(gateway))
    if (family === 'http') this.#http.add(gateway, server, this.#bound)
    else if (family === 'tls') this.#addTls(gateway, server)
    else this.#tcpGateways.push({ gateway, server })
  }

  build(): ListenerPlan {
    const place = { port: this.#port, bind: this.#bind, gateways: this.#gateways }
    if (this.#family === 'http') return { ...place, kind: 'http', hosts: this.#http.build() } satisfies HttpListenerPlan
    if (this.#family === 'tls') return { ...place, kind: 'tls', servers: this.#tls } satisfies TlsListenerPlan
    const rules = this.#tcpGateways.flatMap(({ gateway, server }) => this.#streamRules(gateway, server))
    return { ...place, kind: 'tcp', rules }
  }

  #addTls(gateway: Gateway, server: GatewayServer): void {
    const plan = this.#tlsPlanOf(gateway, server)
    for (const { host } of server.hosts) {
      const taken = this.#tls.at(host)
      if (taken === undefined) this.#tls.set(host, plan)
      else this.#complain(gateway, `host ${host} on port ${server.port} is served by Gateway ${taken.gateway}`)
    }
  }

  #tlsPlanOf(gateway: Gateway, server: GatewayServer): TlsServerPlan {
    const key = keyOf(gateway)
    if (server.tls?.mode !== 'terminate') {
      const rules = compileSniRules(servicesOf(this.#bound, gateway, server), gateway, server)
      return { mode: 'passthrough', gateway: key, rules }
    }
    const { mode: _mode, ...tls } = server.tls
    const termination = { ...tls, secret: `${gateway.namespace}/${tls.credentialName}` }
    if (server.protocol === 'tls') {
      const rules = this.#streamRules(gateway, server)
      return { mode: 'terminate', gateway: key, tls: termination, inside: { kind: 'tcp', rules } }
    }
    const hosts = new HttpHostsBuilder()
    hosts.add(gateway, server, this.#bound)
    return { mode: 'terminate', gateway: key, tls: termination, inside: { kind: 'http', hosts: hosts.build() } }
  }

  #streamRules(gateway: Gateway, server: GatewayServer) {
    return compileStreamRules(servicesOf(this.#bound, gateway, server), { gateway, port: server.port })
  }

  #complain(gateway: Gateway, message: string): void {
    this.#problems.push({ kind: 'Gateway', object: keyOf(gateway), severity: 'error', message })
  }
}

function familyOf({ protocol }: GatewayServer): Family {
  switch (protocol) {
    case 'http':
    case 'http2':
    case 'grpc':
      return 'http'
    case 'https':
    case 'tls':
      return 'tls'
    case 'tcp':
      return 'tcp'
    default:
      return protocol satisfies never
  }
}

interface HostDraft {
  redirectsToHttps: boolean
  readonly rules: HttpRoute[]
  /** Objects whose rules are in, so that one which two servers bring is not asked twice. */
  readonly from: Set<VirtualService>
}

/** Gathers the hosts of one port or of one certificate. */
class HttpHostsBuilder {
  readonly #drafts = new Map<string, HostDraft>()

  add(gateway: Gateway, server: GatewayServer, bound: BoundServices): void {
    const redirects = server.tls?.mode === 'redirect'
    for (const { host } of server.hosts) this.#draftOf(host).redirectsToHttps ||= redirects
    const place = { gateway, port: server.port }
    for (const service of servicesOf(bound, gateway, server)) {
      const rules = compileHttpRoutes(service, place)
      for (const host of commonHosts(service, gateway, server)) this.#addRules(host, service, rules, redirects)
    }
  }

  build(): HostMap<VirtualHost> {
    const hosts = new HostMap<VirtualHost>()
    for (const [pattern, { redirectsToHttps, rules }] of this.#drafts) {
      // A rule for everything comes last, or the rules of younger objects would never be asked.
      const last = rules.filter(isCatchAll)
      hosts.set(pattern, { pattern, redirectsToHttps, rules: [...rules.filter((rule) => !isCatchAll(rule)), ...last] })
    }
    return hosts
  }

  #addRules(pattern: string, service: VirtualService, rules: readonly HttpRoute[], redirectsToHttps: boolean): void {
    const draft = this.#draftOf(pattern)
    draft.redirectsToHttps ||= redirectsToHttps
    if (draft.from.has(service)) return
    draft.from.add(service)
    draft.rules.push(...rules)
  }

  #draftOf(pattern: string): HostDraft {
    const known = this.#drafts.get(pattern)
    if (known !== undefined) return known
    const draft: HostDraft = { redirectsToHttps: false, rules: [], from: new Set() }
    this.#drafts.set(pattern, draft)
    return draft
  }
}

function isCatchAll({ matchers }: HttpRoute): boolean {
  return matchers === undefined || matchers.some((matcher) => matcher.isCatchAll)
}

function uniqueProblems(problems: readonly ObjectProblem[]): ObjectProblem[] {
  return [...new Map(problems.map((problem) => [JSON.stringify(problem), problem])).values()]
}
