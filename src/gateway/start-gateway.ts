import type { Catalog, Snapshot } from '../catalog/index.ts'
import type { ObjectKey, VirtualService } from '../model/index.ts'
import type { Dialer } from '../net/index.ts'
import type { Logger, Metrics } from '../observability/index.ts'
import { sleep, TaskGroup } from '../runtime/index.ts'
import { createAccessLog, type WriteLine } from './access-log.ts'
import { ConnectionPool } from './backends/connection-pool.ts'
import { Destinations } from './backends/destinations.ts'
import type { GatewayModuleConfig } from './config.ts'
import { createGatewayMetrics } from './gateway-metrics.ts'
import type { ClientInfo } from './http/exchange.ts'
import type { ConnectionSurroundings } from './listeners/connection.ts'
import type { ListenerStatus } from './listeners/gateway-listener.ts'
import { listenAddressesOf, type NodeAddress } from './listeners/listen-addresses.ts'
import { ListenerSet } from './listeners/listener-set.ts'
import { buildRouteTable } from './routing/build-route-table.ts'
import type { ListenerPlan, ObjectProblem, RouteTable, TerminationPlan } from './routing/route-table.ts'
import { chooseCiphers } from './tls/cipher-suites.ts'
import { TlsTerminator } from './tls/tls-terminator.ts'

/** What a gateway is started with. */
export interface GatewayOptions {
  readonly config: GatewayModuleConfig
  readonly nodeName: string
  readonly catalog: Catalog
  /** Reaches endpoints on this node and on others. */
  readonly dialer: Dialer
  /** Addresses of this node as they are now; asked again every second. */
  readonly addresses: () => readonly NodeAddress[]
  /** Takes the lines of the access log. */
  readonly writeLine: WriteLine
  readonly logger: Logger
  readonly metrics: Metrics
}

/** A running gateway; disposal cuts what `drain` left. */
export interface Gateway extends AsyncDisposable {
  status(): GatewayStatus
  /** Takes no new connections; resolves when the last request is answered, or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>
}

/** State of a gateway at one moment. */
export interface GatewayStatus {
  readonly gateways: number
  readonly virtualServices: number
  readonly rules: number
  readonly listeners: readonly ListenerStatus[]
  readonly problems: readonly ObjectProblem[]
}

const pollMs = 1_000

/** Starts a gateway. Returns at once: listeners come and go with the objects, and a port that is taken is tried again. */
export function startGateway(options: GatewayOptions): Gateway {
  return new RunningGateway(options)
}

class RunningGateway implements Gateway {
  readonly #options: GatewayOptions
  readonly #pool: ConnectionPool
  readonly #destinations: Destinations
  readonly #terminator: TlsTerminator
  readonly #listeners: ListenerSet
  readonly #tasks: TaskGroup
  readonly #subscription: Disposable
  #table: RouteTable
  #source: Pick<Snapshot, 'gateways' | 'virtualServices'> | undefined
  #told: ReadonlySet<string> = new Set()
  /** Looking for problems takes long with thousands of routes, and nobody reads the log every millisecond. */
  #hasNews = false

  constructor(options: GatewayOptions) {
    const { config, catalog, dialer, nodeName, logger } = options
    this.#options = options
    this.#table = buildRouteTable({ gateways: [], virtualServices: [], labels: config.labels })
    const { clusterDomain, loadBalancer, limits, drainTimeoutMs } = config
    this.#pool = new ConnectionPool({ dialer, nowMs: () => performance.now() })
    const ring = loadBalancer.consistentHash
    this.#destinations = new Destinations({ current: () => catalog.current, nodeName, clusterDomain, ring })
    this.#terminator = new TlsTerminator({
      secrets: () => catalog.current.secrets,
      handshakeTimeoutMs: limits.headTimeoutMs,
    })
    const { maxConnections } = limits
    this.#listeners = new ListenerSet({ surroundings: this.#surroundings(), maxConnections, drainTimeoutMs, logger })
    this.#tasks = new TaskGroup((task, error) => logger.error({ task, error }, 'a part of the gateway ended'))
    this.#subscription = catalog.subscribe((snapshot) => this.#follow(snapshot))
    this.#tasks.run('looking around', (signal) => this.#poll(signal))
  }

  status(): GatewayStatus {
    return { ...this.#table.counts, listeners: this.#listeners.status(), problems: this.#problems() }
  }

  async drain(signal: AbortSignal): Promise<void> {
    await this.#listeners.drain(signal)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]()
    await this.#tasks[Symbol.asyncDispose]()
    await this.#listeners[Symbol.asyncDispose]()
    this.#pool[Symbol.dispose]()
  }

  /** Routes are made anew only when an object that makes them has changed; endpoints are looked up when they are used. */
  #follow(snapshot: Snapshot): void {
    const { gateways, virtualServices } = snapshot
    const isSame = this.#source?.gateways === gateways && this.#source.virtualServices === virtualServices
    if (!isSame) {
      this.#source = { gateways, virtualServices }
      const { labels } = this.#options.config
      this.#table = buildRouteTable({ gateways: gateways.values(), virtualServices: virtualServices.values(), labels })
      this.#listen()
      this.#terminator.keepOnly(terminationsOf(this.#table))
    }
    this.#destinations.prune()
    const wanted = this.#destinations.backendIds()
    this.#pool.keepOnly((id) => wanted.has(id))
    this.#hasNews = true
  }

  #listen(): void {
    const { config, addresses } = this.#options
    this.#listeners.set(this.#table.listeners, listenAddressesOf(config, addresses()))
  }

  async #poll(signal: AbortSignal): Promise<void> {
    for (;;) {
      await sleep(pollMs, signal)
      this.#listen()
      if (this.#hasNews) this.#tellProblems()
      this.#hasNews = false
    }
  }

  #problems(): ObjectProblem[] {
    const certificates = terminationsOf(this.#table).flatMap(({ gateway, plan, alpn }): ObjectProblem[] => {
      const { unknown } = chooseCiphers(plan.cipherSuites, false)
      const suites = unknown.map((suite) => ({
        kind: 'Gateway' as const,
        object: gateway,
        severity: 'notice' as const,
        message: `cipher suite ${suite} is not known here and left out`,
      }))
      const message = this.#terminator.problemOf(plan, alpn)
      const about = { kind: 'Secret', object: plan.secret, severity: 'error' } as const
      return message === undefined ? suites : [...suites, { ...about, message }]
    })
    const known = new Map(
      [...this.#table.problems, ...certificates, ...this.#destinationProblems()].map((problem) => [
        textOf(problem),
        problem,
      ]),
    )
    return [...known.values()]
  }

  #destinationProblems(): ObjectProblem[] {
    return [...servicesIn(this.#table)].flatMap((service) => {
      const http = service.http.flatMap(({ action }) =>
        action.kind === 'forward' ? [...action.destinations, ...action.mirrors] : [],
      )
      const others = [...service.tls, ...service.tcp].flatMap(({ destinations }) => destinations)
      return [...http, ...others].flatMap((destination): ObjectProblem[] => {
        const message = this.#destinations.problemOf(destination, service.namespace)
        const object = `${service.namespace}/${service.name}`
        return message === undefined ? [] : [{ kind: 'VirtualService', object, severity: 'error', message }]
      })
    })
  }

  /** Each problem is logged when it appears, not again with every change of something else. */
  #tellProblems(): void {
    const problems = this.#problems()
    const known = this.#told
    this.#told = new Set(problems.map(textOf))
    for (const problem of problems) {
      if (known.has(textOf(problem))) continue
      const fields = { reason: `${problem.kind} ${problem.object}: ${problem.message}` }
      if (problem.severity === 'error') this.#options.logger.warn(fields, 'a part of an object is not in force')
      else this.#options.logger.info(fields, 'an object asks for something that has no effect')
    }
  }

  #surroundings(): ConnectionSurroundings {
    const { config, dialer, metrics: registry, writeLine, logger } = this.#options
    const metrics = createGatewayMetrics(registry)
    registry.observe('gateway_upstream_connections', 'Open connections to backends', [], () => [
      { value: this.#pool.size },
    ])
    registry.observe('gateway_connections', 'Open connections of clients', ['listener'], () =>
      this.#listeners
        .status()
        .map(({ address, connections }) => ({ value: connections, labels: { listener: address } })),
    )
    const log = createAccessLog(config.accessLog, writeLine, Math.random)
    const { dialTimeoutMs, limits, proxyProtocol, forwardedHeader, trustForwardedHeaders } = config
    const common = { destinations: this.#destinations, random: Math.random, dialTimeoutMs }
    return {
      handler: {
        ...common,
        pool: this.#pool,
        habits: { forwardedHeader, trustForwardedHeaders },
        nowMs: () => performance.now(),
        onDone(record) {
          metrics.request(record)
          log?.request(record)
          if (record.problem !== undefined && record.status >= 500) {
            logger.debug({ backend: record.backend ?? '', reason: record.problem }, 'a request failed')
          }
        },
      },
      streams: { ...common, dialer },
      terminator: this.#terminator,
      limits,
      proxyProtocol,
      onStreamDone(client: ClientInfo, route, end, durationMs) {
        metrics.stream(route, end)
        log?.stream(client, route, end, durationMs)
      },
      onRefused(reason) {
        metrics.refused()
        logger.debug({ reason }, 'a client was refused')
      },
    }
  }
}

function textOf({ kind, object, message }: ObjectProblem): string {
  return `${kind} ${object}: ${message}`
}

interface Termination {
  readonly gateway: ObjectKey
  readonly plan: TerminationPlan
  readonly alpn: readonly string[]
}

function terminationsOf({ listeners }: RouteTable): Termination[] {
  return listeners.flatMap((listener) => {
    if (listener.kind !== 'tls') return []
    return [...listener.servers.entries()].flatMap(([, server]) => {
      if (server.mode !== 'terminate') return []
      return [{ gateway: server.gateway, plan: server.tls, alpn: alpnOf(server.inside.kind) }]
    })
  })
}

/** Which protocols TLS clients may choose from. */
function alpnOf(inside: 'http' | 'tcp'): readonly string[] {
  return inside === 'http' ? ['h2', 'http/1.1'] : []
}

function servicesIn({ listeners }: RouteTable): ReadonlySet<VirtualService> {
  return new Set(listeners.flatMap(servicesOfListener))
}

function servicesOfListener(listener: ListenerPlan): VirtualService[] {
  if (listener.kind === 'tcp') return listener.rules.map(({ virtualService }) => virtualService)
  if (listener.kind === 'http') return servicesOfHosts([...listener.hosts.entries()])
  return [...listener.servers.entries()].flatMap(([, server]) => {
    if (server.mode === 'passthrough') return server.rules.map(({ virtualService }) => virtualService)
    if (server.inside.kind === 'tcp') return server.inside.rules.map(({ virtualService }) => virtualService)
    return servicesOfHosts([...server.inside.hosts.entries()])
  })
}

function servicesOfHosts(
  hosts: readonly (readonly [string, { readonly rules: readonly { readonly virtualService: VirtualService }[] }])[],
) {
  return hosts.flatMap(([, { rules }]) => rules.map(({ virtualService }) => virtualService))
}
