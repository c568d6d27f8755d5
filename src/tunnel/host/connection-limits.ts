import type { ConnectionGater, MultiaddrConnection } from '@libp2p/interface'

/** How many connections others may open to this node. */
export interface ConnectionLimitOptions {
  /** Handshakes under way, in total: beyond it they would only slow each other down until all are too late. */
  readonly handshakes: number
  /** Handshakes under way of one address, so that one host cannot take the room of all. */
  readonly handshakesPerAddress: number
  /** Connections of one identity that have been opened from its side and stand. */
  readonly perPeer: number
  /** The same of all identities of one address, for a member can make any number of identities. */
  readonly perAddress: number
}

/**
 * A server that comes back is met by all agents of a large mesh at once, and does some 200 handshakes a second; those that
 * are turned away come again. Two nodes have a connection or two, and a few more for a moment while paths change.
 */
export const connectionLimits: ConnectionLimitOptions = {
  handshakes: 512,
  handshakesPerAddress: 256,
  perPeer: 16,
  perAddress: 2048,
}

/** Turns connections away that are beyond the limits, and asks the next gate about the others. */
export function limitConnections(next: ConnectionGater, limits: ConnectionLimitOptions): ConnectionGater {
  const shaking = new Map<MultiaddrConnection, string>()
  const perAddress = new Counts<string>()
  const perPeer = new Counts<string>()
  const standing = new Counts<string>()

  const settle = (connection: MultiaddrConnection) => {
    const address = shaking.get(connection)
    if (address !== undefined && shaking.delete(connection)) perAddress.remove(address)
  }
  return {
    ...next,
    async denyInboundConnection(connection) {
      const address = addressOf(connection.remoteAddr.toString())
      if (shaking.size >= limits.handshakes || perAddress.of(address) >= limits.handshakesPerAddress) return true
      shaking.set(connection, address)
      perAddress.add(address)
      connection.addEventListener('close', () => settle(connection), { once: true })
      return (await next.denyInboundConnection?.(connection)) ?? false
    },
    async denyInboundUpgradedConnection(peer, connection) {
      settle(connection)
      const peerId = peer.toString()
      const from = addressOf(connection.remoteAddr.toString())
      if (perPeer.of(peerId) >= limits.perPeer || standing.of(from) >= limits.perAddress) return true
      perPeer.add(peerId)
      standing.add(from)
      const leave = () => {
        perPeer.remove(peerId)
        standing.remove(from)
      }
      connection.addEventListener('close', leave, { once: true })
      return (await next.denyInboundUpgradedConnection?.(peer, connection)) ?? false
    },
  }
}

/** Without the port, which is another one each time. */
export function addressOf(multiaddress: string): string {
  return multiaddress.replace(/\/tcp\/.*/, '')
}

class Counts<Key> {
  readonly #counts = new Map<Key, number>()

  of(key: Key): number {
    return this.#counts.get(key) ?? 0
  }

  add(key: Key): void {
    this.#counts.set(key, this.of(key) + 1)
  }

  remove(key: Key): void {
    if (this.of(key) > 1) this.#counts.set(key, this.of(key) - 1)
    else this.#counts.delete(key)
  }
}
