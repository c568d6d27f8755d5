import type { ConnectionGater, PeerId } from '@libp2p/interface'
import { type Logger, Seldom } from '../../observability/index.ts'

/** Who decides about peers, by their proven identities. */
export interface PeerGateOptions {
  /** Peers that no connection may stand to; default: none. */
  readonly isShutOut?: ((peerId: string) => boolean) | undefined
  /** Peers whose relayed connections are joined while this node relays; default: all. */
  readonly mayRelay?: ((peerId: string) => boolean) | undefined
  readonly logger: Logger
}

/** One line per peer in this time: who is shut out does not stop trying. */
const quietMs = 60_000

/**
 * Ends connections of peers that are shut out as soon as they have proven who they are, and says which connections are
 * relayed. Handshakes before that are the business of `watch`.
 */
export function createPeerGate(
  watch: ConnectionGater,
  relaying: { readonly isOn: boolean },
  { isShutOut = () => false, mayRelay = () => true, logger }: PeerGateOptions,
): ConnectionGater {
  const seldom = new Seldom(quietMs)
  return {
    ...watch,
    denyOutboundEncryptedConnection: (peer, connection) => refuses(peer, connection.remoteAddr.toString()),
    async denyInboundEncryptedConnection(peer, connection) {
      await watch.denyInboundEncryptedConnection?.(peer, connection)
      return refuses(peer, connection.remoteAddr.toString())
    },
    denyInboundRelayReservation: () => !relaying.isOn,
    denyOutboundRelayedConnection: (source, destination) =>
      !(relaying.isOn && [source, destination].every((peer) => mayRelay(peer.toString()))),
  }

  function refuses(peer: PeerId, address: string): boolean {
    const peerId = peer.toString()
    if (!isShutOut(peerId)) return false
    if (seldom.isDue(peerId)) {
      logger.error({ peer: peerId, address, reason: 'it is listed in edgeTunnel.revoked' }, 'revoked node refused')
    }
    return true
  }
}
