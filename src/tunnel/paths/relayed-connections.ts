import { describeError, type Logger } from '../../observability/index.ts'
import { firstOf } from '../../runtime/index.ts'
import type { Host } from '../host/host.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { NameRecord } from '../records/name-record.ts'
import type { RelayChoice, RelayLink } from './relay-choice.ts'

/** What connecting through relays needs. */
export interface RelayedConnectionsOptions {
  readonly host: Pick<Host, 'connectionsTo' | 'dial'>
  readonly relays: RelayChoice
  readonly logger: Logger
}

/** A node, and the identity that it has or must have. */
export type WantedPeer = Pick<NameRecord, 'name' | 'peerId'>

const relayTimeoutMs = 5000

/** Connections to peers through relays: one attempt per peer and relay at a time, shared by all flows that need it. */
export class RelayedConnections {
  readonly #options: RelayedConnectionsOptions
  readonly #running = new Map<string, Promise<PeerConnection>>()

  constructor(options: RelayedConnectionsOptions) {
    this.#options = options
  }

  /** A new one through the best relay that reaches the peer; undefined when there is none, or all fail. */
  async make(peer: WantedPeer, onFailure: (error: unknown) => void): Promise<PeerConnection | undefined> {
    const { relays } = this.#options
    return await firstOf(
      relays.attempts(peer.name, (link) => this.#through(peer, link)),
      onFailure,
    )
  }

  /** One through any relay but this one, standing or new. */
  async another(peer: WantedPeer, relayPeerId: string | undefined): Promise<PeerConnection | undefined> {
    const { host, relays } = this.#options
    const standing = host.connectionsTo(peer.peerId)
    const begin = async (link: RelayLink) =>
      standing.find((connection) => connection.relayPeerId === link.peerId) ?? (await this.#through(peer, link))
    return await firstOf(relays.attempts(peer.name, begin, relayPeerId), () => {})
  }

  #through({ name, peerId }: WantedPeer, link: RelayLink): Promise<PeerConnection> {
    const { host, logger } = this.#options
    const key = `${link.address.text} ${peerId}`
    const running = this.#running.get(key)
    if (running !== undefined) return running
    const address = `${link.address.multiaddress}/p2p/${link.peerId}/p2p-circuit/p2p/${peerId}`
    const attempt = host.dial(address, AbortSignal.timeout(relayTimeoutMs))
    this.#running.set(key, attempt)
    attempt
      .then(
        () => logger.info({ peer: name, path: `relayed via ${link.address.text}` }, 'peer connected'),
        (error: unknown) => logger.debug({ peer: name, error: describeError(error) }, 'no relayed connection'),
      )
      .finally(() => this.#running.delete(key))
    return attempt
  }
}
