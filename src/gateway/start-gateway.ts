import type { Catalog, Snapshot } from '../catalog/index.ts'
import type { Dialer } from '../net/index.ts'
import { createLoggedTasks, type Logger, type Metrics } from '../observability/index.ts'
import { sleep, type TaskGroup } from '../runtime/index.ts'
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
import { objectProblems, ownedDestinationsOf, terminationsOf, textOf } from './object-problems.ts'
import { ObjectReports, type WriteObjectReport } from './object-reports.ts'
import { buildRouteTable } from './routing/build-route-table.ts'
import type { ObjectProblem, RouteTable } from './routing/route-table.ts'
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
  /** Writes what is wrong with an object into its status; absent where objects have none. */
  readonly writeReport?: WriteObjectReport | undefined
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
  /** Why problems are not written into the status of their objects; absent when they are, or need not be. */
  readonly reportProblem?: string
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
  readonly #reports: ObjectReports | undefined
  #table: RouteTable
  #source: Pick<Snapshot, 'gateways' | 'virtualServices'> | undefined
  #told: ReadonlySet<string> = new Set()
  /** Looking for problems takes long with thousands of routes, and nobody reads the log every millisecond. */
  #hasNews = false
  /** As above, for what objects are told. */
  #hasChanged = false

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
    this.#tasks = createLoggedTasks(logger, 'a part of the gateway ended')
    this.#subscription = catalog.subscribe((snapshot) => this.#follow(snapshot))
    this.#tasks.run('looking around', (signal) => this.#poll(signal))
    const { writeReport } = options
    const nowMs = () => performance.now()
    const reports = writeReport && new ObjectReports({ writeReport, nowMs, logger })
    if (reports !== undefined) this.#tasks.run('telling objects', (signal) => this.#report(reports, signal))
    this.#reports = reports
  }

  status(): GatewayStatus {
    const reportProblem = this.#reports?.problem
    return {
      ...this.#table.counts,
      listeners: this.#listeners.status(),
      problems: this.#problems(),
      ...(reportProblem !== undefined && { reportProblem }),
    }
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
      this.#destinations.keepOnly(ownedDestinationsOf(this.#table))
    }
    this.#destinations.prune()
    const wanted = this.#destinations.backendIds()
    this.#pool.keepOnly((id) => wanted.has(id))
    this.#hasNews = true
    this.#hasChanged = true
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

  /** Writing may take long, and must not keep anything else from being looked at. */
  async #report(reports: ObjectReports, signal: AbortSignal): Promise<void> {
    for (let isWaiting = true; ; ) {
      await sleep(pollMs, signal)
      if (!(isWaiting || this.#hasChanged)) continue
      this.#hasChanged = false
      isWaiting = await reports.write(this.#table, this.#problems(), signal)
    }
  }

  #problems(): ObjectProblem[] {
    return objectProblems(this.#table, this.#terminator, this.#destinations)
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
