import type { InterfaceAddress } from '../../linux/index.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import { isInSubnetOf } from './direct-addresses.ts'
import type { RelayChoice } from './relay-choice.ts'

const relayedPrefix = 'relayed via '

/** What paths are called in logs, in the status and where links are chosen: `lan`, `direct`, `punched`, `relayed via NAME`. */
export class PathNames {
  readonly #interfaceAddresses: () => readonly InterfaceAddress[]
  readonly #relays: Pick<RelayChoice, 'nameOf' | 'named'>
  readonly #known = new WeakMap<PeerConnection, 'lan' | 'direct'>()

  /** The addresses are those of this node and its LAN neighbours. */
  constructor(interfaceAddresses: () => readonly InterfaceAddress[], relays: Pick<RelayChoice, 'nameOf' | 'named'>) {
    this.#interfaceAddresses = interfaceAddresses
    this.#relays = relays
  }

  /** Of the path to a peer that has connected to us from this IP address. */
  ofAddress(host: string): 'lan' | 'direct' {
    return this.#interfaceAddresses().some((entry) => isInSubnetOf(host, entry)) ? 'lan' : 'direct'
  }

  /** Of what this relay joins. */
  ofRelay(relayPeerId: string): string {
    return `${relayedPrefix}${this.#relays.nameOf(relayPeerId)}`
  }

  /** Of the path of a connection. */
  ofConnection(connection: PeerConnection): string {
    const { relayPeerId } = connection
    return relayPeerId === undefined ? this.ofDirect(connection) : this.ofRelay(relayPeerId)
  }

  /** The same for a connection without a relay; stays for as long as that stands, for its links are known by it. */
  ofDirect(connection: PeerConnection): 'lan' | 'direct' {
    const known = this.#known.get(connection)
    if (known !== undefined) return known
    const [, host = ''] = /^\/[^/]+\/([^/]+)/.exec(connection.address) ?? []
    const name = this.ofAddress(host)
    this.#known.set(connection, name)
    return name
  }

  /** The relay that has joined a link; undefined for a direct one, and when it is no longer configured. */
  relayOf({ path }: Pick<Link, 'path'>): string | undefined {
    return this.#relays.named(relayNameOf({ path }))
  }
}

/** What people know the relay of a relayed link by. */
export function relayNameOf({ path }: Pick<Link, 'path'>): string {
  return path.replace(relayedPrefix, '')
}

/** What the path of a link that is not relayed is called. */
export function directNameOf({ path }: Pick<Link, 'path'>): 'lan' | 'direct' | 'punched' {
  return path === 'lan' || path === 'punched' ? path : 'direct'
}
