import type { Catalog } from '../catalog/index.ts'
import {
  type DatagramSocket,
  type MessageServer,
  openDatagramSocket,
  type SocketAddress,
  startMessageServer,
} from '../net/index.ts'
import { describeError, type Logger, type Metrics } from '../observability/index.ts'
import { createClusterDns } from './cluster-dns.ts'
import type { DnsConfig } from './config.ts'
import { DnsListenError } from './errors.ts'
import { Forwarder } from './forwarder.ts'
import { Responder } from './responder.ts'
import type { AddressOfEndpoint } from './service-records.ts'

/** What DNS serves, where, and what it needs for that. */
export interface DnsOptions {
  readonly config: DnsConfig
  /** The bridge address; must be on this node already. */
  readonly address: string
  /** Instead of `config.listenPort`; 0 lets the kernel choose one for UDP and TCP. */
  readonly port?: number
  readonly catalog: Catalog
  readonly logger: Logger
  readonly metrics: Metrics
  /** Every address at which this server can be reached, so that it never asks itself. */
  readonly ownAddresses: () => readonly string[]
  /**
   * Says where this node reaches an endpoint of a headless Service when not at its own address. Asked again with each
   * snapshot, and for addresses about every second.
   */
  readonly addressOfEndpoint?: AddressOfEndpoint
  /** How long one upstream resolver may take; two seconds unless said. */
  readonly upstreamTimeoutMs?: number
  /** Aborts a start that is under way. */
  readonly signal?: AbortSignal
}

/** How DNS fares, for `edgemesh status`. */
export interface DnsStatus {
  readonly address: string
  readonly port: number
  /** Resolvers for names outside the cluster, as of the last such question. */
  readonly upstreams: readonly string[]
  readonly tcpConnections: number
}

/** A running DNS server. */
export interface DnsServer extends AsyncDisposable {
  status(): DnsStatus
}

const idleTimeoutMs = 10_000
const maxConnections = 100
const portAttempts = 5

/** Holds the questions of a burst; the kernel's default is full after some 250. */
const receiveBufferBytes = 4 * 1024 * 1024

/** Listens on UDP and TCP; rejects with a `DnsListenError` that names the likely obstacle. */
export async function startDns(options: DnsOptions): Promise<DnsServer> {
  const { config, address, metrics } = options
  options.signal?.throwIfAborted()
  const { logger } = options
  await using starting = new AsyncDisposableStack()
  let port = options.port ?? config.listenPort
  const clusterDns = createClusterDns(config.cacheDNS, options.catalog)
  const forwarder = starting.use(
    new Forwarder({
      servers: () => (clusterDns().length > 0 ? clusterDns() : config.upstreamServers),
      stubDomains: config.stubDomains,
      ...(config.cacheDNS.enable && { maxCacheSeconds: config.cacheDNS.cacheTTL }),
      resolvConf: config.resolvConf,
      isOwn: (server) => server.port === port && [address, ...options.ownAddresses()].includes(server.address),
      logger,
      ...(options.upstreamTimeoutMs === undefined ? {} : { timeoutMs: options.upstreamTimeoutMs }),
      failures: metrics.counter('dns_upstream_failures_total', 'Questions that an upstream resolver did not answer'),
    }),
  )
  const responder = starting.use(new Responder({ ...options, forwarder, isCacheOnly: () => clusterDns().length > 0 }))
  const sockets = starting.use(await listen({ address, port }, responder, logger))
  port = sockets.port
  options.signal?.throwIfAborted()
  logger.info({ address: `${address}:${port}` }, 'serving DNS')
  forwarder.start()
  const running = starting.move()
  return {
    status: () => ({ address, port, upstreams: forwarder.upstreams, tcpConnections: sockets.tcp.connections }),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}

interface Sockets extends AsyncDisposable {
  readonly port: number
  readonly tcp: MessageServer
}

async function listen(at: SocketAddress, responder: Responder, logger: Logger): Promise<Sockets> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listenOnce(at, responder, logger)
    } catch (error) {
      // A port that the kernel chose for UDP may be taken for TCP.
      if (at.port !== 0 || attempt >= portAttempts) throw new DnsListenError(at.address, at.port, error)
    }
  }
}

async function listenOnce({ address, port }: SocketAddress, responder: Responder, logger: Logger): Promise<Sockets> {
  await using opening = new AsyncDisposableStack()
  const udp: DatagramSocket = opening.use(
    await openDatagramSocket({
      address,
      port,
      receiveBufferBytes,
      onMessage: (message, from) => responder.answerDatagram(message, (response) => udp.send(response, from)),
      onError: (error) => logger.warn({ reason: describeError(error) }, 'the UDP socket of DNS reported an error'),
    }),
  )
  const tcp = opening.use(
    await startMessageServer({
      address,
      port: udp.port,
      idleTimeoutMs,
      maxConnections,
      onMessage: (message) => responder.answerMessage(message),
    }),
  )
  const open = opening.move()
  return { port: udp.port, tcp, [Symbol.asyncDispose]: () => open.disposeAsync() }
}
