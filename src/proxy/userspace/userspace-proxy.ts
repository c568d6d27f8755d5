import type { PartitionedRing } from '../../loadbalancer/index.ts'
import {
  type DatagramDialer,
  type Dialer,
  readOpenFileLimit,
  resetStream,
  startTcpListener,
  type TcpListener,
  type TcpSocket,
} from '../../net/index.ts'
import { createLoggedTasks, type Logger, type Metrics } from '../../observability/index.ts'
import type { ReadableMap, TaskGroup } from '../../runtime/index.ts'
import type { DialPolicy } from '../l4/dial-first-reachable.ts'
import { type CarrierOptions, carryConnection, recordFailure } from './connection-carrier.ts'
import { createDatagramProxy, type DatagramProxy } from './datagram-proxy.ts'
import { createHttpCarrier, type HttpCarrier } from './http-carrier.ts'
import { createUserspaceMetrics, type RefusalReason } from './metrics.ts'
import { createResetWarning } from './reset-warning.ts'
import { type BalancedRoute, createRouteTable, type UserspaceRoute } from './route-table.ts'

export type { UserspaceRoute } from './route-table.ts'

/** What the proxy needs. */
export interface UserspaceProxyOptions {
  readonly host: string
  /** 0 lets the kernel choose. */
  readonly port: number
  readonly dialer: Dialer
  /** Absent where datagrams are not carried; their ServicePorts have no socket then. */
  readonly datagramDialer?: DatagramDialer | undefined
  /** A client's UDP session without a datagram for this long is over; 30 s by default. */
  readonly udpIdleTimeoutMs?: number
  /** For ServicePorts whose route brings no policy. */
  readonly balancing: 'round-robin' | 'random'
  /** `loadBalancer.consistentHash`; absent for its defaults. */
  readonly hashRing?: PartitionedRing
  /** Bounds one attempt to reach a backend; all attempts of a connection together take at most twice as long. */
  readonly dialTimeoutMs: number
  /** Connections above this number are reset; by default as many as file descriptors allow, at most 16,384. */
  readonly maxConnections?: number
  readonly random?: () => number
  readonly nowMs?: () => number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** State of the proxy at one moment. */
export interface UserspaceProxyStatus {
  readonly ports: readonly number[]
  readonly routes: number
  readonly openConnections: number
  readonly datagramSessions: number
}

/**
 * Few TCP listeners for all ServicePorts: the local address and port of a connection name the ServicePort. Disposal
 * resets the connections that are still open.
 */
export interface UserspaceProxy extends AsyncDisposable {
  /** What is listened on; the first from the start, all on the same host. */
  readonly ports: readonly number[]
  /** Listens on one port more; rejects as `startTcpListener` does. */
  listenAlso(port: number): Promise<void>
  /**
   * Replaces all routes, keyed by `placeKeyOf`; open connections are left alone. Those of TCP hold at once,
   * those of UDP when the promise resolves, and only then may the kernel send datagrams there.
   */
  setRoutes(routes: ReadableMap<UserspaceRoute>): Promise<void>
  /** Stops accepting, then waits until no connection is open or the signal aborts. */
  drain(signal: AbortSignal): Promise<void>
  status(): UserspaceProxyStatus
}

const maxDialAttempts = 4
const totalDialTimeFactor = 2
const longestSlowMs = 500
/** A connection takes two file descriptors; past the limit the kernel would close new ones as if they were served. */
const connectionShare = 0.4
const mostConnections = 16_384
/** A UDP session to a backend on this node takes one. */
const datagramShare = 0.1
const mostSessions = 4_096
const usualUdpIdleMs = 30_000

/** Resolves when the port is bound; rejects as `startTcpListener` does. */
export async function startUserspaceProxy(options: UserspaceProxyOptions): Promise<UserspaceProxy> {
  const { host, port, logger, random = Math.random, nowMs = () => performance.now() } = options
  const usual = { balancing: { kind: options.balancing }, readsRequests: false }
  const routes = createRouteTable(usual, { random, nowMs, ring: options.hashRing })
  const tasks = createLoggedTasks(logger)
  const carrying = createCarrying(options, nowMs)
  const http = createHttpCarrier(carrying)
  const handle = createConnectionHandler(options, tasks, { ...carrying, http })
  const listeners: TcpListener[] = []
  const listen = async (wanted: number): Promise<void> => {
    const listener = await startTcpListener({
      host,
      port: wanted,
      onAcceptError: (error) => logger.warn({ error }, 'cannot accept a connection'),
      onConnection: (client) => handle(client, routes.find(client.localAddress, client.localPort)),
    })
    listeners.push(listener)
  }
  await listen(port)
  const datagrams = createDatagrams(options, carrying, nowMs)
  const ports = () => listeners.map((listener) => listener.port)
  return {
    get ports() {
      return ports()
    },
    listenAlso: listen,
    async setRoutes(next) {
      routes.replace(next)
      await datagrams?.setRoutes(routes.datagramRoutes())
    },
    status: () => ({
      ports: ports(),
      routes: routes.size,
      openConnections: tasks.size,
      datagramSessions: datagrams?.sessions ?? 0,
    }),
    async drain(signal) {
      for (const listener of listeners) listener.stopAccepting()
      http.drain()
      await tasks.idle(signal)
    },
    async [Symbol.asyncDispose]() {
      // Resets the clients, which ends every task.
      await Promise.all(listeners.map((listener) => listener[Symbol.asyncDispose]()))
      await tasks[Symbol.asyncDispose]()
      http[Symbol.dispose]()
      await datagrams?.[Symbol.asyncDispose]()
    },
  }
}

function createDatagrams(
  { datagramDialer, udpIdleTimeoutMs = usualUdpIdleMs, dialTimeoutMs, metrics }: UserspaceProxyOptions,
  carrying: CarrierOptions,
  nowMs: () => number,
): DatagramProxy | undefined {
  if (datagramDialer === undefined) return undefined
  const proxy = createDatagramProxy({
    dialer: datagramDialer,
    dialTimeoutMs,
    idleTimeoutMs: udpIdleTimeoutMs,
    maxSessions: openFilesFor(datagramShare, mostSessions),
    nowMs,
    logger: carrying.logger,
    onFailure: (failure, route) => recordFailure(failure, route, carrying),
  })
  metrics.observe('userspace_datagram_sessions', 'UDP sessions of clients', [], () => [{ value: proxy.sessions }])
  return proxy
}

function createCarrying(options: UserspaceProxyOptions, nowMs: () => number): CarrierOptions {
  const { dialer, dialTimeoutMs, logger } = options
  return {
    dialer,
    dialPolicyOf: ({ policy }) => createDialPolicy(policy.connectTimeoutMs ?? dialTimeoutMs),
    logger,
    metrics: createUserspaceMetrics(options.metrics),
    warnOfReset: createResetWarning(logger, nowMs),
  }
}

type ConnectionHandler = (client: TcpSocket, route: BalancedRoute | undefined) => void

function createConnectionHandler(
  { maxConnections = openFilesFor(connectionShare, mostConnections) }: UserspaceProxyOptions,
  tasks: TaskGroup,
  carrying: CarrierOptions & { readonly http: HttpCarrier },
): ConnectionHandler {
  const { logger, metrics, warnOfReset, http } = carrying
  const refuse = (client: TcpSocket, reason: RefusalReason) => {
    resetStream(client, new Error(`refused: ${reason}`))
    metrics.refused(reason)
  }
  return (client, route) => {
    metrics.accepted()
    if (route === undefined) {
      logger.debug({ address: String(client.localAddress) }, 'connection reset: no ServicePort has this address')
      refuse(client, 'unknown-address')
      return
    }
    const limit = limitReached(route, tasks.size, maxConnections)
    if (limit !== undefined) {
      warnOfReset(route.id, limit)
      refuse(client, 'too-many-connections')
      return
    }
    tasks.run('userspace connection', async () => {
      metrics.opened()
      route.openConnections += 1
      try {
        if (route.policy.readsRequests) await http.carry(client, route)
        else await carryConnection(client, route, carrying)
      } finally {
        route.openConnections -= 1
        metrics.closed()
      }
    })
  }
}

/** Which limit keeps a new connection out, in words. */
function limitReached({ policy, openConnections }: BalancedRoute, all: number, most: number): string | undefined {
  if (all >= most) return `the limit of ${most} open connections is reached`
  const { maxConnections } = policy
  if (maxConnections === undefined || openConnections < maxConnections) return undefined
  return `the limit of ${maxConnections} open connections, set by a DestinationRule, is reached`
}

function createDialPolicy(timeoutMs: number): DialPolicy {
  return {
    maxAttempts: maxDialAttempts,
    attemptTimeoutMs: timeoutMs,
    slowAfterMs: Math.min(longestSlowMs, timeoutMs / 4),
    totalTimeoutMs: timeoutMs * totalDialTimeFactor,
  }
}

function openFilesFor(share: number, most: number): number {
  return Math.min(most, Math.floor((readOpenFileLimit() ?? Number.POSITIVE_INFINITY) * share))
}
