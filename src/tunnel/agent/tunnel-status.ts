import type { Metrics } from '../../observability/index.ts'
import type { FlowCounter } from '../flows/flow-limits.ts'
import type { Host } from '../host/host.ts'
import type { GoPeers } from '../legacy/go-peers.ts'
import type { PortMapper } from '../nat/port-mapper.ts'
import type { DirectConnector } from '../paths/direct-connector.ts'
import type { PeerPaths } from '../paths/peer-paths.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { PeerStatus, TunnelStatus } from '../tunnel.ts'
import type { OwnRelay } from './own-relay.ts'
import type { ServerLink } from './server-link.ts'

/** What the status and the metrics of a tunnel are made of. */
export interface ObservedParts {
  readonly nodeName: string
  readonly host: Host
  readonly links: readonly ServerLink[]
  readonly ownRelay: OwnRelay
  readonly book: RecordBook
  readonly direct: DirectConnector
  readonly paths: PeerPaths
  readonly goPeers: GoPeers | undefined
  readonly mapper: PortMapper | undefined
  readonly inbound: FlowCounter
  readonly outbound: FlowCounter
}

/** The state of the tunnel now. */
export function tunnelStatusOf(parts: ObservedParts): TunnelStatus {
  const { nodeName, host, links, ownRelay, book, goPeers, mapper } = parts
  const agents = ownRelay.connected
  const records = book.records.map(({ record }) => record)
  const strangers = goPeers?.known.filter(({ name }) => book.recordOf(name) === undefined) ?? []
  const others = [...records, ...strangers].filter(({ name }) => name !== nodeName)
  return {
    peerId: host.peerId,
    listen: host.listening(),
    ...(mapper !== undefined && { openedPort: mapper.status() }),
    ...(agents !== undefined && { relay: { agents, reservations: host.reservations() } }),
    servers: links.map((link) => link.status()),
    peers: others.map((peer) => peerStatusOf(parts, peer)),
  }
}

function peerStatusOf(
  { direct, paths, goPeers, inbound, outbound }: ObservedParts,
  { name, peerId }: Pick<PeerStatus, 'name' | 'peerId'>,
): PeerStatus {
  const lastError = paths.lastErrorOf(name)
  const linkFacts = paths.linkFactsOf(peerId)
  const limits = goPeers?.limitsOf(peerId)
  return {
    name,
    peerId,
    path: paths.pathOf(peerId),
    openFlows: inbound.ofPeer(peerId) + outbound.ofPeer(peerId),
    failedAttempts: direct.failedAttemptsOf(name),
    ...(linkFacts !== undefined && { links: linkFacts }),
    ...(lastError !== undefined && { lastError }),
    ...(limits !== undefined && { limits }),
  }
}

/** Keeps the gauges of servers and flows. */
export function observeTunnel({ links, inbound, outbound }: ObservedParts, metrics: Metrics): void {
  metrics.observe('tunnel_server_connected', 'Whether a server is connected', ['server'], () =>
    links.map((link) => ({ labels: { server: link.address.text }, value: Number(link.isUp) })),
  )
  metrics.observe('tunnel_open_flows', 'Flows that are open, by who opened them', ['direction'], () => [
    { labels: { direction: 'in' }, value: inbound.total },
    { labels: { direction: 'out' }, value: outbound.total },
  ])
}
