import { createDirectDatagramDialer } from '../../net/index.ts'
import { type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { flowProtocol } from '../flows/carrier.ts'
import { FlowAcceptor } from '../flows/flow-acceptor.ts'
import type { FlowCounter } from '../flows/flow-limits.ts'
import { createTargetCheck } from '../flows/target-check.ts'
import type { Host } from '../host/host.ts'
import { isDirect, type PeerConnection } from '../host/peer-connection.ts'
import type { GoPeers } from '../legacy/go-peers.ts'
import type { PathPolicy } from '../paths/path-policy.ts'
import type { PeerPaths } from '../paths/peer-paths.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { TunnelOptions } from '../tunnel.ts'
import { tunnelLimitsOf } from './limits.ts'

/** How long a peer that opens a flow, or waits for an answer to one, is waited for. */
export const flowTimeoutMs = 10_000
const targetDialTimeoutMs = 5000

/** How long what propagates may take: a record to its readers, a new endpoint to the far end. */
export const patienceMs = 1000

/** What taking the flows of peers needs. */
export interface AcceptorParts {
  readonly options: TunnelOptions
  readonly book: RecordBook
  readonly tasks: TaskGroup
  /** Absent unless identities are derived. */
  readonly goPeers: GoPeers | undefined
  readonly inbound: FlowCounter
}

/** The same for those that come over libp2p streams. */
export interface FlowParts extends Pick<AcceptorParts, 'options' | 'goPeers'> {
  readonly host: Host
  readonly paths: PeerPaths
  readonly policy: PathPolicy
}

/** Who takes the flows of peers and dials their targets on this node. */
export function createAcceptor({ options, tasks, inbound, book, goPeers }: AcceptorParts): FlowAcceptor {
  const { nodeName, catalog, forbiddenNetworks = [], localDialer, config, logger, metrics } = options
  return new FlowAcceptor({
    nodeName,
    tasks,
    open: inbound,
    localDialer,
    localDatagrams: options.localDatagrams ?? createDirectDatagramDialer(),
    nodeAddress: options.nodeAddress,
    checkTarget: createTargetCheck({
      nodeName,
      catalog,
      allowNodePorts: config.allowNodePorts,
      forbiddenNetworks,
      holdMs: patienceMs,
    }),
    // Nodes of a mesh of derived identities may have met no directory that holds records.
    nameOf: async (peerId, signal) =>
      goPeers === undefined
        ? await nameOf(book, peerId, signal)
        : (book.nameOf(peerId) ?? goPeers.nameOf(peerId) ?? peerId),
    isStopping: () => options.signal?.aborted ?? false,
    dialTimeoutMs: targetDialTimeoutMs,
    handshakeTimeoutMs: flowTimeoutMs,
    logger,
    metrics,
  })
}

/** Lets peers open flows over libp2p streams, as far as the switches of this node allow it. */
export async function handleFlows(
  { options, host, paths, policy, goPeers }: FlowParts,
  acceptor: FlowAcceptor,
): Promise<void> {
  const maxStreams = tunnelLimitsOf(options.config).streamsPerConnection
  const describe = (connection: PeerConnection) => paths.names.ofConnection(connection)
  await host.handle({
    protocol: flowProtocol,
    maxStreams,
    onStream(stream, from) {
      const path = describe(from)
      if (isDirect(from) || policy.allows(path)) acceptor.acceptStream(stream, { peerId: from.peerId, path })
      else stream.destroy()
    },
  })
  await goPeers?.handle({ acceptor, maxStreams, describe })
}

/** The name behind an identity; its record may arrive a moment after its first flow. */
async function nameOf(book: RecordBook, peerId: string, signal: AbortSignal): Promise<string | undefined> {
  const known = book.nameOf(peerId)
  if (known !== undefined) return known
  const { promise, resolve } = Promise.withResolvers<void>()
  using patience = new TimeLimit(patienceMs, signal)
  patience.signal.addEventListener('abort', () => resolve(), { once: true })
  using _subscription = book.onAccepted((record) => {
    if (record.peerId === peerId) resolve()
  })
  await promise
  return book.nameOf(peerId)
}
