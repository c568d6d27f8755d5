import type { InterfaceAddress } from '../../linux/index.ts'
import type { SocketAddress } from '../../net/index.ts'
import type { Logger, Metrics } from '../../observability/index.ts'
import type { TaskGroup } from '../../runtime/index.ts'
import type { FlowAcceptor } from '../flows/flow-acceptor.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import type { Membership } from '../identity/load-membership.ts'
import { LinkConnector } from '../links/link-connector.ts'
import { LinkTable } from '../links/link-table.ts'
import type { PathPolicy } from '../paths/path-policy.ts'
import type { PeerPaths } from '../paths/peer-paths.ts'
import { RelayChoice } from '../paths/relay-choice.ts'
import { AppearanceWatch } from '../punch/appearance.ts'
import { Puncher } from '../punch/puncher.ts'
import type { RecordBook } from '../records/record-book.ts'
import { acceptSplices } from '../relay/splice-client.ts'
import type { News } from './news.ts'
import type { OwnRecord } from './own-record.ts'
import type { ServerLink } from './server-link.ts'
import { createWayBack } from './way-back.ts'

/** What the links of an agent are made of. */
export interface LinksOptions {
  readonly host: Host
  readonly book: RecordBook
  readonly membership: Membership
  readonly paths: PeerPaths
  readonly policy: PathPolicy
  readonly acceptor: FlowAcceptor
  readonly ownRecord: OwnRecord
  readonly news: News
  /** Where the router lets peers in; undefined when it does not. */
  mapped(): SocketAddress | undefined
  /** Seeks a direct connection to this node: it has flows to us. */
  wantDirect(nodeName: string): void
  readonly tasks: TaskGroup
  /** Servers, some of which tell how this node is seen. */
  readonly links: readonly ServerLink[]
  readonly interfaceAddresses: () => readonly InterfaceAddress[]
  /** How long flows wait for a peer to which all links were lost. */
  readonly resumeMs: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** Lets flows use links of our own where both ends speak them; ends them when disposed. */
export async function startLinks(options: LinksOptions): Promise<LinkTable> {
  const { host, book, membership, paths, policy, acceptor, ownRecord, tasks, logger, metrics } = options
  const { name, role, sequence } = ownRecord.current.record
  const returnTo = createWayBack({
    tasks,
    book,
    paths,
    isStranded: (peerId) => table.peer(peerId)?.isStranded ?? false,
    finalRefusalOf: (nodeName) => new RelayChoice(options.links).finalRefusalOf(nodeName),
    giveUp: (peerId, reason) => table.peer(peerId)?.giveUp(new Error(reason)),
  })
  const table = new LinkTable({
    credentials: membership,
    self: { name, role, sequence },
    tasks,
    allows: (path) => policy.allows(path),
    nameConflictOf: (claimed, peerId) => book.refusalOf(claimed, peerId),
    onIncoming: (flow, peer) => acceptor.accept(flow, peer),
    onWant: (peerId, kind) => {
      connector.want(peerId, kind)
      puncher?.want(peerId, kind)
    },
    onChange: () => paths.changed(),
    onStranded: returnTo,
    isDoubted: (link) => paths.isDoubted(link),
    distanceOf: (link) => paths.distanceOf(link),
    resumeMs: options.resumeMs,
    logger,
    metrics,
  })
  const connector = createConnector(options, table)
  followNews(options, connector)
  await connector.serve()
  await acceptSplices({
    host,
    tasks,
    onSocket: (socket, relayPeerId) => table.accept({ socket, path: paths.names.ofRelay(relayPeerId) }),
    logger,
  })
  const puncher = policy.punches ? await startPuncher(options, table) : undefined
  paths.useLinks({
    table,
    want(peerId) {
      connector.want(peerId, 'shared')
      puncher?.want(peerId, 'shared')
    },
    hopeMs: (peerId) => connector.hopeMs(peerId),
    another: (peerId, relayPeerId) => connector.another(peerId, relayPeerId),
    lastErrorOf: (peerId) => puncher?.lastErrorOf(peerId),
  })
  observe(table, metrics)
  return table
}

function createConnector({ host, paths, tasks, logger }: LinksOptions, table: LinkTable): LinkConnector {
  return new LinkConnector({
    host,
    table,
    tasks,
    bestConnection: (peerId) => paths.bestConnectionTo(peerId),
    relaysTo: (peerId) => paths.relaysTo(peerId),
    pathOf: (connection) => paths.names.ofConnection(connection),
    pathFrom: (address) => paths.names.ofAddress(address),
    onSettled: () => paths.changed(),
    logger,
  })
}

/** A peer that was met again, or is connected, may have a link as well. */
function followNews({ host, book, news, tasks }: LinksOptions, connector: LinkConnector): void {
  news.onPeers((names) => {
    for (const { peerId } of names.flatMap((name) => book.recordOf(name)?.record ?? [])) connector.retry(peerId)
  })
  const connections = host.onConnection((event, { peerId }) => event === 'open' && connector.retry(peerId))
  tasks.signal.addEventListener('abort', () => connections[Symbol.dispose](), { once: true })
}

async function startPuncher(
  { host, book, tasks, links, news, mapped, wantDirect, interfaceAddresses, logger }: LinksOptions,
  table: LinkTable,
): Promise<Puncher> {
  const servers = () => connectedServers(host, links)
  const appearance = new AppearanceWatch({ host, servers, interfaceAddresses, mapped })
  const puncher = new Puncher({
    host,
    table,
    tasks,
    relayedConnection(peerId) {
      const connections = host.connectionsTo(peerId)
      return connections.some(isDirect) ? undefined : connections.at(-1)
    },
    appearance: (signal, port) => (port === undefined ? appearance.current(signal) : appearance.ofPort(port, signal)),
    nameOf: (peerId) => book.nameOf(peerId),
    wantDirect(peerId) {
      const name = book.nameOf(peerId)
      if (name !== undefined) wantDirect(name)
    },
    logger,
  })
  tasks.signal.addEventListener('abort', () => puncher[Symbol.dispose](), { once: true })
  news.onNetworkChange(() => puncher.changed())
  news.onPeers((names) => {
    for (const { peerId } of names.flatMap((name) => book.recordOf(name)?.record ?? [])) puncher.retry(peerId)
  })
  await puncher.serve()
  return puncher
}

/** Connections to the servers that stand now. */
export function connectedServers(host: Host, links: readonly ServerLink[]): PeerConnection[] {
  return links.flatMap(({ isUp, peerId }) => (isUp && peerId !== undefined ? toServer(host, peerId) : []))
}

/** The connection to a server that shows its address. */
function toServer(host: Host, peerId: string): PeerConnection[] {
  return host
    .connectionsTo(peerId)
    .filter((connection) => connection.isOutbound && isDirect(connection))
    .slice(0, 1)
}

function observe(table: LinkTable, metrics: Metrics): void {
  metrics.observe('tunnel_links', 'TLS links to peers, by kind and path', ['kind', 'path'], () => {
    const counts = new Map<string, number>()
    for (const { links } of table.all) {
      for (const link of links) {
        const key = `${link.kind} ${link.path.split(' ', 1)[0]}`
        counts.set(key, (counts.get(key) ?? 0) + 1)
      }
    }
    return [...counts].map(([key, value]) => {
      const [kind = '', path = ''] = key.split(' ')
      return { labels: { kind, path }, value }
    })
  })
  metrics.observe('tunnel_waiting_bytes', 'Bytes from peers that wait for slow readers here', [], () => [
    { value: table.heldBytes },
  ])
  metrics.observe('tunnel_replay_bytes', 'Bytes kept in case that a link is lost before they arrive', [], () => [
    { value: table.replayBytes },
  ])
}
