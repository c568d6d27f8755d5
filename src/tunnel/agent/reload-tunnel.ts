import type { Host } from '../host/host.ts'
import { parseServerAddress } from '../host/server-address.ts'
import { deriveIdentity } from '../identity/derived-key.ts'
import type { Membership as LoadedMembership } from '../identity/load-membership.ts'
import type { LinkTable } from '../links/link-table.ts'
import { admissionRulesOf } from '../records/admission.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { Membership, Tunnel, TunnelOptions } from '../tunnel.ts'
import type { OwnRelay } from './own-relay.ts'
import { isRelayNode, type MeshServers, relaysWithoutAddress, serverEntriesOf } from './relay-nodes.ts'
import type { ServerLinks } from './server-links.ts'

/** What takes on a changed configuration. */
export interface ReloadedParts {
  readonly options: TunnelOptions
  readonly membership: LoadedMembership
  readonly book: RecordBook
  readonly host: Host
  readonly ownRelay: OwnRelay
  readonly servers: ServerLinks
  /** Absent where there are no links. */
  readonly table: LinkTable | undefined
}

/** Makes what may change while the tunnel runs as the configuration says it; all of it is looked at before any is done. */
export function createReload(parts: ReloadedParts): Tunnel['reload'] {
  const { options, servers, ownRelay } = parts
  const { nodeName, config, logger } = options
  return async (wanted) => {
    const own = { nodeName, listenPort: config.listenPort, peerIds: await relayPeerIdsOf(options, wanted) }
    const addresses = serverEntriesOf(wanted, own).map(parseServerAddress)
    await setMembership(parts, wanted)
    await servers.set(addresses)
    await ownRelay.set(isRelayNode(wanted, own))
    for (const name of relaysWithoutAddress(wanted, own)) {
      const remedy = 'give it an advertiseAddress under relayNodes'
      logger.warn({ peer: name, remedy }, 'a relay cannot be found: it has no address')
    }
  }
}

/** In a mesh of derived identities the agents named as relays have known ones. */
async function relayPeerIdsOf(
  { config }: TunnelOptions,
  { relayNodes }: MeshServers,
): Promise<ReadonlyMap<string, string> | undefined> {
  if (config.identity !== 'derived') return undefined
  const derived = relayNodes.map(async ({ nodeName }) => [nodeName, (await deriveIdentity(nodeName)).peerId] as const)
  return new Map(await Promise.all(derived))
}

/** The keys come first: what cannot be read rejects. */
async function setMembership(
  parts: ReloadedParts,
  { psk, trust, peers, revoked, relay }: Partial<Membership>,
): Promise<void> {
  const { options, membership, book, host, ownRelay, table } = parts
  if (psk !== undefined) await membership.keyRing?.set(psk)
  if (relay !== undefined) ownRelay.setLimits(relay)
  if (trust === undefined || peers === undefined || revoked === undefined) return
  const { identity } = options.config
  book.setAdmission(await admissionRulesOf({ identity, trust, peers, revoked }))
  const reason = new Error('this node has revoked the peer')
  ownRelay.shutOut(book.revoked)
  for (const peerId of book.revoked) {
    table?.peer(peerId)?.close(reason, true)
    for (const connection of host.connectionsTo(peerId)) connection.abort(reason)
  }
  warnOfItself(parts, { peers, revoked })
}

/** One file serves all nodes, also those that the others shut out. */
function warnOfItself(
  { options, membership }: ReloadedParts,
  { peers, revoked }: Pick<Membership, 'peers' | 'revoked'>,
): void {
  const { nodeName, logger } = options
  const { peerId } = membership.identity
  if (revoked.includes(nodeName) || revoked.includes(peerId)) {
    logger.error({ peer: peerId, reason: 'it is listed in edgeTunnel.revoked' }, 'this node itself is revoked')
  }
  const owner = Object.hasOwn(peers, nodeName) ? peers[nodeName] : peerId
  if (owner === peerId) return
  const reason = `edgeTunnel.peers says that ${nodeName} is ${owner}, but this is ${peerId}`
  logger.error(
    { peer: peerId, reason, remedy: 'restore identity.key, or correct the entry' },
    'others refuse this node',
  )
}
