import type { Role } from '../config/index.ts'
import type { GatewayStatus } from '../gateway/index.ts'
import type { HostRouteStatus, ServiceProxyStatus } from '../proxy/index.ts'
import type { TunnelServerStatus, TunnelStatus } from '../tunnel/index.ts'
import type { Boot } from './boot.ts'
import type { BuildInfo } from './command.ts'
import type { MetricsServerStatus } from './metrics-server.ts'

/** What `edgemesh status` shows and `GET /status` of the control socket returns, as JSON. */
export interface StatusDocument {
  readonly role: string
  readonly node: string
  readonly version: string
  readonly pid: number
  readonly startedAt: string
  /** What readiness waits for; empty means ready. */
  readonly waitingFor: readonly string[]
  readonly memory: { readonly rssBytes: number }
  readonly metadata?: MetadataStatus
  readonly dns?: { readonly listening: readonly string[]; readonly upstreams: readonly string[] }
  readonly proxy?: ServiceProxyStatus
  /** Routes to the pods of LAN neighbours. */
  readonly hostRoutes?: readonly HostRouteStatus[]
  readonly gateway?: GatewayStatus
  readonly tunnel?: TunnelStatus
  readonly metrics?: MetricsServerStatus
  readonly server?: TunnelServerStatus
}

/** Where objects come from and how many are known. */
export interface MetadataStatus {
  readonly source: string
  readonly services: number
  readonly nodes: number
  readonly destinationRules?: number
  readonly problems: readonly string[]
  /** Set while what is known comes from disk, because the API has not answered yet. */
  readonly snapshotAgeSeconds?: number
  /** Why what is known cannot be kept on disk. */
  readonly snapshotProblem?: string
}

/** What the status of every role begins with. */
export function headOf<R extends Role>(role: R, base: Boot<R>, build: BuildInfo): StatusDocument {
  return {
    role,
    node: base.config.nodeName,
    version: build.version,
    pid: process.pid,
    startedAt: base.startedAt.toISOString(),
    waitingFor: base.health.waitingFor(),
    memory: { rssBytes: process.memoryUsage.rss() },
  }
}

/** The status as a page for people. */
export function renderStatus(status: StatusDocument): string {
  const sections = [
    renderHead(status),
    status.metadata && renderMetadata(status.metadata),
    status.dns && [`dns       listens on ${status.dns.listening.join(', ')}; asks ${listOf(status.dns.upstreams)}`],
    status.proxy && renderProxy(status.proxy),
    status.hostRoutes?.map(renderHostRoute),
    status.gateway && renderGateway(status.gateway),
    status.tunnel && renderTunnel(status.tunnel),
    status.server && renderServer(status.server),
    status.metrics && renderMetrics(status.metrics),
  ]
  return `${sections.flatMap((section) => section ?? []).join('\n')}\n`
}

function renderHead(status: StatusDocument): string[] {
  const megabytes = (status.memory.rssBytes / 1e6).toFixed(0)
  const ready = status.waitingFor.length === 0 ? 'ready' : `not ready, waits for ${status.waitingFor.join(', ')}`
  return [
    `edgemesh ${status.role} ${status.version} on ${status.node}: ${ready}`,
    `process   pid ${status.pid}, since ${status.startedAt}, ${megabytes} MB`,
  ]
}

function renderMetadata(metadata: MetadataStatus): string[] {
  const { services, nodes, destinationRules = 0 } = metadata
  const rules = destinationRules === 0 ? '' : `, ${destinationRules} DestinationRules`
  return [
    `metadata  ${metadata.source}: ${services} Services, ${nodes} Nodes${rules}`,
    ...(metadata.snapshotAgeSeconds === undefined
      ? []
      : [`          from disk, written ${metadata.snapshotAgeSeconds} s ago; the API has not answered yet`]),
    ...(metadata.snapshotProblem === undefined ? [] : [`          problem: ${metadata.snapshotProblem}`]),
    ...metadata.problems.map((problem) => `          problem: ${problem}`),
  ]
}

function renderProxy(proxy: ServiceProxyStatus): string[] {
  const { servicePorts, refusedServicePorts, openConnections, listenPorts, openedFirewallChains, problem } = proxy
  const refused = refusedServicePorts === 0 ? '' : ` (${refusedServicePorts} without endpoints)`
  const firewalls = openedFirewallChains.map((chain) => `          accepts added to firewall chain ${chain}`)
  return [
    `proxy     ${servicePorts} ServicePorts${refused}, ${openConnections} connections in userspace on port ${listenPorts.join(', ')}`,
    ...renderRules(proxy),
    ...firewalls,
    ...renderReachability(proxy.reachability),
    ...(problem === undefined ? [] : [`          problem: ${problem}`]),
  ]
}

/** Nodes that are reached directly, one by one; the others by reason. */
function renderReachability({ nodes }: ServiceProxyStatus['reachability']): string[] {
  const direct = nodes.filter((node) => node.direct > 0)
  const reasons = new Map<string, string[]>()
  for (const { node, direct: count, reason = 'unknown' } of nodes) {
    if (count === 0) reasons.set(reason, [...(reasons.get(reason) ?? []), node])
  }
  return [
    ...direct.map(({ node, direct: count, tunnelled, reason }) => {
      const rest = tunnelled === 0 ? '' : `, ${tunnelled} through the tunnel: ${reason}`
      return `reach     ${node.padEnd(20)} ${count} endpoint addresses directly${rest}`
    }),
    ...[...reasons].map(([reason, names]) => `reach     ${shortListOf(names)} through the tunnel: ${reason}`),
  ]
}

function renderHostRoute({ node, gateway, networks, reason }: HostRouteStatus): string {
  const routed = networks.length === 0 ? 'none' : `${networks.join(', ')} via ${gateway}`
  return `route     ${node.padEnd(20)} ${routed}${reason === undefined ? '' : `: ${reason}`}`
}

function shortListOf(names: readonly string[]): string {
  const rest = names.length - 5
  return rest <= 0 ? names.join(', ').padEnd(20) : `${names.slice(0, 5).join(', ')} and ${rest} more`
}

function renderRules({ rules: { kind, version = kind, reason, limits }, changesBy }: ServiceProxyStatus): string[] {
  const changed = changesBy === undefined ? '' : `, changed by ${changesBy}`
  return [`rules     ${version}${changed}: ${reason}`, ...limits.map((limit) => `          limit: ${limit}`)]
}

function renderGateway(status: GatewayStatus): string[] {
  const { gateways, virtualServices, rules, listeners, problems, reportProblem } = status
  const ports = listeners.map(({ address, kind, connections, problem, gateways: names }) => {
    const state = problem === undefined ? `${connections} connections` : `does not listen: ${problem}`
    return `listener  ${address.padEnd(20)} ${kind}, ${state}; Gateway ${names.join(', ')}`
  })
  const told = problems.map(({ kind, object, severity, message }) => {
    return `          ${severity === 'error' ? 'problem' : 'notice'}: ${kind} ${object}: ${message}`
  })
  const untold = reportProblem === undefined ? [] : [`          not written into the objects: ${reportProblem}`]
  const counts = `${gateways} Gateways, ${virtualServices} VirtualServices, ${rules} rules`
  return [`gateway   ${counts}`, ...ports, ...told, ...untold]
}

function renderTunnel(tunnel: TunnelStatus): string[] {
  const servers = tunnel.servers.map((server) => {
    const state = server.connected ? `connected${server.reserved ? ', relays for us' : ''}` : 'not connected'
    const roundTrip = server.roundTripMs === undefined ? '' : `, ${server.roundTripMs.toFixed(1)} ms away`
    return `server    ${server.address}: ${state}${roundTrip}${reasonOf(server.lastError)}`
  })
  const peers = tunnel.peers.flatMap((peer) => {
    const facts = `${renderPath(peer.path)}${renderLinks(peer.links)}, ${peer.openFlows} flows`
    const line = `peer      ${peer.name.padEnd(20)} ${facts}${reasonOf(peer.lastError)}`
    return peer.limits === undefined ? [line] : [line, `          limit: ${peer.limits}`]
  })
  const opened = tunnel.openedPort?.address
  const router = opened === undefined ? [] : [`router    lets peers in at ${opened}`]
  return [`tunnel    ${tunnel.peerId}, listens on ${listOf(tunnel.listen)}`, ...router, ...servers, ...peers]
}

function renderServer(server: TunnelServerStatus): string[] {
  const records = server.records.map(({ name, peerId, connected }) => {
    return `record    ${name.padEnd(20)} ${peerId} ${connected ? 'connected' : 'away'}`
  })
  const relayed = server.relayed.map(({ nodes, open, bytes }) => {
    return `relayed   ${nodes.join(' - ')}: ${open} connections, ${(bytes / 1e6).toFixed(1)} MB`
  })
  return [
    `server    ${server.peerId}, listens on ${listOf(server.listen)}, ${server.reservations} reservations`,
    ...records,
    ...relayed,
  ]
}

function renderMetrics({ address, problem }: MetricsServerStatus): string[] {
  return [`metrics   ${problem === undefined ? `on http://${address}/metrics` : `not served: ${problem}`}`]
}

function renderLinks(links: TunnelStatus['peers'][number]['links']): string {
  if (links === undefined) return ''
  const { count, roundTripMs, bytesSent, bytesReceived } = links
  const roundTrip = roundTripMs === undefined ? '' : `, ${roundTripMs.toFixed(1)} ms`
  const sent = (bytesSent / 1e6).toFixed(1)
  return `, ${count} links${roundTrip}, ${sent} MB sent, ${(bytesReceived / 1e6).toFixed(1)} MB received`
}

function renderPath(path: TunnelStatus['peers'][number]['path']): string {
  switch (path.kind) {
    case 'lan':
    case 'direct':
    case 'punched':
      return `${path.kind} via ${path.address}`
    case 'relayed':
      return `relayed via ${path.via}`
    case 'none':
      return 'no connection'
    default:
      return path satisfies never
  }
}

function reasonOf(error: string | undefined): string {
  return error === undefined ? '' : ` (${error})`
}

function listOf(items: readonly string[]): string {
  return items.length === 0 ? 'nothing' : items.join(', ')
}
