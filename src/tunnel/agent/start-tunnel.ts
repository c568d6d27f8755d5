import type { NamedAddress } from '../../linux/index.ts'
import type { SocketAddress } from '../../net/index.ts'
import { createLoggedTasks } from '../../observability/index.ts'
import type { TaskGroup } from '../../runtime/index.ts'
import { Neighbours } from '../directory/neighbours.ts'
import { createFlowDialer } from '../flows/flow-dialer.ts'
import type { FlowCounter } from '../flows/flow-limits.ts'
import { createHost, type Host } from '../host/host.ts'
import { tcpMultiaddressOf } from '../host/server-address.ts'
import { derivedNameOf, type Membership as LoadedMembership, loadMembership } from '../identity/load-membership.ts'
import { GoPeers } from '../legacy/go-peers.ts'
import { rendezvousOf } from '../legacy/rendezvous.ts'
import type { LinkTable } from '../links/link-table.ts'
import type { PortMapper } from '../nat/port-mapper.ts'
import { announcedAddressesOf, ownMultiaddressesOf } from '../paths/announced-addresses.ts'
import { DirectConnector } from '../paths/direct-connector.ts'
import { type PathPolicy, pathPolicyOf } from '../paths/path-policy.ts'
import { PeerPaths, type PeerPathsOptions } from '../paths/peer-paths.ts'
import { admissionRulesOf, mayRelayOf } from '../records/admission.ts'
import { RecordBook } from '../records/record-book.ts'
import { createSpliceBook } from '../relay/serve-relay.ts'
import type { Tunnel, TunnelOptions } from '../tunnel.ts'
import { createAcceptor, flowTimeoutMs, handleFlows, patienceMs } from './accept-flows.ts'
import { endStale } from './end-stale.ts'
import { createFlowCounters, tunnelLimitsOf } from './limits.ts'
import { meetFound } from './meet-found.ts'
import { News } from './news.ts'
import { followOwnNetwork, type NetworkChange } from './own-network.ts'
import { OwnRecord } from './own-record.ts'
import { OwnRelay } from './own-relay.ts'
import { startPortMapping } from './port-mapping.ts'
import { proxyChoiceOf } from './proxy-choice.ts'
import { RelayWatch } from './relay-watch.ts'
import { createReload } from './reload-tunnel.ts'
import type { ServerLink } from './server-link.ts'
import { ServerLinks } from './server-links.ts'
import { connectedServers, startLinks } from './start-links.ts'
import { observeTunnel, tunnelStatusOf } from './tunnel-status.ts'

/** The parts of a running tunnel. */
interface Parts {
  readonly options: TunnelOptions
  readonly membership: LoadedMembership
  readonly book: RecordBook
  readonly host: Host
  readonly tasks: TaskGroup
  readonly links: ServerLink[]
  /** By which this node and its LAN neighbours know each other. */
  readonly interfaceAddresses: () => readonly NamedAddress[]
  readonly ownRelay: OwnRelay
  readonly policy: PathPolicy
  readonly direct: DirectConnector
  readonly paths: PeerPaths
  /** Absent unless identities are derived. */
  readonly goPeers: GoPeers | undefined
  readonly news: News
  readonly inbound: FlowCounter
  readonly outbound: FlowCounter
}

/**
 * Starts the tunnel of an agent or gateway. Returns as soon as the port listens: servers and peers are met in the
 * background, and their absence is no error.
 */
export async function startTunnel(options: TunnelOptions): Promise<Tunnel> {
  await using starting = new AsyncDisposableStack()
  using _listening = options.health.block('tunnel listens')
  const parts = await createParts(options, starting)
  const { host, direct, tasks, paths, book, goPeers } = parts
  const { keyRing } = parts.membership
  const acceptor = createAcceptor(parts)
  await handleFlows(parts, acceptor)
  await host.listen()
  if (goPeers !== undefined) starting.use(meetFound({ ...parts, ...options, goPeers }))
  const mapper = mapPort(parts)
  const ownRecord = await createOwnRecord(parts)
  let table: LinkTable | undefined
  if (options.config.links) {
    const { logger, metrics } = options
    const resumeMs = options.config.resumeSeconds * 1000
    const mapped = () => mapper?.mapped
    const wantDirect = (name: string) => (parts.policy.seeksDirect ? direct.want(name) : undefined)
    const linked = { acceptor, ownRecord, resumeMs, mapped, wantDirect, logger, metrics }
    table = starting.use(await startLinks({ ...parts, ...linked }))
  }
  starting.use(watchRelays(parts, table))
  starting.use(host.onConnection(() => paths.changed()))
  starting.use(
    book.onAccepted(({ name }) => {
      paths.changed()
      parts.news.tellPeers([name])
    }),
  )
  await serveNeighbours(parts, ownRecord)
  const servers = createServerLinks(parts, ownRecord)
  const reload = createReload({ ...parts, servers, table })
  await reload(options.config)
  if (parts.policy.seeksDirect) tasks.run('direct connections', (signal) => direct.run(signal))
  if (keyRing !== undefined) tasks.run('pre-shared keys', (signal) => keyRing.follow(options.logger, signal))
  parts.news.onNetworkChange(() => servers.retryAll())
  tasks.run('own network', (signal) => followNetwork(parts, { ownRecord, table, mapper }, signal))
  options.logger.info({ peer: host.peerId, address: host.listening().join(' ') }, 'tunnel listens')
  return tunnelOf({ ...parts, mapper }, reload, starting.move())
}

/** Also where there are no links: flows over streams depend on relays all the more. */
function watchRelays({ options, host, paths, tasks, links }: Parts, table: LinkTable | undefined): Disposable {
  const { logger } = options
  const watching = new DisposableStack()
  watching.use(
    new RelayWatch({
      host,
      links: () => [...(table?.all ?? [])].flatMap((peer) => [...peer.links]),
      isRelay: (peerId) => links.some((server) => server.peerId === peerId),
      relayOf: (link) => paths.names.relayOf(link),
      tasks,
      logger,
    }),
  )
  watching.use(
    host.onDoubt(({ peerId, isDoubted }) => {
      const path = paths.names.ofRelay(peerId)
      if (isDoubted) logger.warn({ path }, 'nothing is heard of the relay: new flows do without it, open ones wait')
      else logger.info({ path }, 'the relay is heard again')
      paths.changed()
    }),
  )
  return watching
}

async function createParts(options: TunnelOptions, starting: AsyncDisposableStack): Promise<Parts> {
  const { config, stateDir, nodeName, role = 'agent', logger, metrics } = options
  const limits = tunnelLimitsOf(config)
  const rendezvous = rendezvousOf(config)
  const membership = await loadMembership({ stateDir, nodeName, role }, config, logger)
  const ownPeerId = membership.identity.peerId
  const admission = await admissionRulesOf(config)
  const book = starting.use(await RecordBook.open({ stateDir, logger, metrics, admission, ownPeerId }))
  const splices = createSpliceBook(config)
  const isKnown = mayRelayOf(book, config)
  const mayRelay = (peerId: string) => isKnown(peerId) && splices.refusalOf(peerId) === undefined
  const host = starting.use(
    await createHost({
      ...membership,
      listenPort: config.listenPort,
      morePorts: config.morePorts,
      muxers: config.muxers,
      maxStreamsPerConnection: limits.streamsPerConnection,
      isRelay: false,
      isShutOut: (peerId) => book.revoked.has(peerId),
      mayRelay,
      relayMeter: splices,
      rendezvous,
      logger,
    }),
  )
  const tasks = starting.use(createLoggedTasks(logger))
  const ownRelay = starting.use(new OwnRelay({ host, book, splices, mayRelay, rendezvous, logger, metrics }))
  const links: ServerLink[] = []
  const ownName = nodeName
  const interfaceAddresses = () => announcedAddressesOf(options.interfaceAddresses(), config)
  const direct = new DirectConnector({ ownName, host, book, tasks, interfaceAddresses, logger })
  const met = { ownName: derivedNameOf({ nodeName, role }), host, tasks, interfaceAddresses, logger }
  const goPeers = rendezvous === undefined ? undefined : new GoPeers(met)
  const policy = pathPolicyOf(config.paths)
  const paths = createPaths(options, {
    host,
    book,
    links,
    direct,
    policy,
    strangers: goPeers,
    interfaceAddresses,
    logger,
  })
  const news = new News()
  news.onPeers((names) => direct.retry(names))
  const peers = { direct, paths, policy, goPeers }
  const flows = createFlowCounters(limits, metrics)
  return { options, membership, book, host, tasks, links, interfaceAddresses, ownRelay, ...peers, ...flows, news }
}

function createPaths({ metrics }: TunnelOptions, parts: Omit<PeerPathsOptions, 'patienceMs' | 'onStream'>): PeerPaths {
  const overStreams = metrics.counter('tunnel_stream_flows_total', 'Flows opened over libp2p streams', ['peers'])
  return new PeerPaths({ ...parts, patienceMs, onStream: (peers) => overStreams.add(1, { peers }) })
}

/** Also where derived identities let nodes find each other by mDNS: that tells no names that are signed. */
async function serveNeighbours({ options, host, book, tasks, links }: Parts, ownRecord: OwnRecord): Promise<void> {
  const hasServer = () => links.some(({ isUp }) => isUp)
  const neighbours = new Neighbours({ host, book, tasks, hasServer, logger: options.logger })
  ownRecord.onChange(() => neighbours.askAll())
  await neighbours.serve()
}

function createServerLinks(parts: Parts, ownRecord: OwnRecord): ServerLinks {
  const { options, host, book, paths, membership, tasks, links } = parts
  return new ServerLinks({
    host,
    book,
    ownRecord,
    hasPreSharedKey: membership.keyRing !== undefined,
    isDirectoryOptional: options.config.identity === 'derived',
    proxyOf: proxyChoiceOf(options.config.proxy, options.env ?? {}),
    onChange: () => paths.changed(),
    onSeen: (names) => parts.news.tellPeers(names),
    logger: options.logger,
    tasks,
    links,
  })
}

async function createOwnRecord(parts: Parts): Promise<OwnRecord> {
  const { options, membership, book } = parts
  const { nodeName: name, role = 'agent', logger } = options
  const { identity, formerIdentity } = membership
  return await OwnRecord.create({ name, role, identity, formerIdentity, book, logger }, ownAddressesOf(parts))
}

/** Has the router open a port, where there may be one in between. */
function mapPort({ options, host, links, interfaceAddresses, policy, tasks }: Parts): PortMapper | undefined {
  const { defaultGateways: gateways, logger } = options
  if (!policy.mapsPorts || gateways === undefined) return undefined
  const servers = () => connectedServers(host, links)
  return startPortMapping({ host, servers, interfaceAddresses, gateways, tasks, logger })
}

/** With what begins once the port listens. */
interface RunningParts extends Parts {
  readonly mapper: PortMapper | undefined
}

/** Who takes part in what becomes of the network. */
interface Followers {
  readonly ownRecord: OwnRecord
  readonly table: LinkTable | undefined
  readonly mapper: PortMapper | undefined
}

async function followNetwork(
  parts: Parts,
  { ownRecord, table, mapper }: Followers,
  signal: AbortSignal,
): Promise<void> {
  const { options, host, interfaceAddresses, direct, news } = parts
  const { defaultRoutes = () => '', logger } = options
  const onChange = (what: NetworkChange) => {
    logger.info({ reason: what }, 'network changed: paths are sought anew')
    const links = [...(table?.all ?? [])].flatMap((peer) => [...peer.links])
    endStale({ connections: host.connections(), links }, options.interfaceAddresses())
    news.tellNetworkChange()
    direct.retryAll()
  }
  const onLook = () => ownRecord.update(ownAddressesOf(parts, mapper?.mapped))
  // Only those that neighbours know: some container networks have an address for each Service.
  await followOwnNetwork({ interfaceAddresses, defaultRoutes, onLook, onChange }, signal)
}

function ownAddressesOf({ options, host, interfaceAddresses, policy }: Parts, mapped?: SocketAddress): string[] {
  if (!policy.seeksDirect) return []
  const own = ownMultiaddressesOf(options.config.advertiseAddress, interfaceAddresses(), host.listeningPort())
  return mapped === undefined ? own : [...own, tcpMultiaddressOf(mapped.address, mapped.port)]
}

function tunnelOf(parts: RunningParts, reload: Tunnel['reload'], running: AsyncDisposableStack): Tunnel {
  const { options, paths, inbound, outbound, book } = parts
  const { nodeName, logger, metrics } = options
  const observed = { ...parts, nodeName }
  observeTunnel(observed, metrics)
  return {
    dialer: createFlowDialer({ carriers: paths, open: outbound, timeoutMs: flowTimeoutMs, logger, metrics }),
    status: () => tunnelStatusOf(observed),
    reload,
    ping: (nodeName, signal) => paths.ping(nodeName, signal),
    drain: (signal) => inbound.idle(signal),
    unpin: (name) => book.unpin(name) || book.unpinServer(name),
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  }
}
