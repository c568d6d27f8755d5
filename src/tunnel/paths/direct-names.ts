import type { InterfaceAddress } from '../../linux/index.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import { isInSubnetOf } from './direct-addresses.ts'

/** What people call paths without a relay. */
export class DirectNames {
  readonly #interfaceAddresses: () => readonly InterfaceAddress[]
  readonly #known = new WeakMap<PeerConnection, 'lan' | 'direct'>()

  /** The addresses are those of this node and its LAN neighbours. */
  constructor(interfaceAddresses: () => readonly InterfaceAddress[]) {
    this.#interfaceAddresses = interfaceAddresses
  }

  /** For a peer at this IP address. */
  ofAddress(host: string): 'lan' | 'direct' {
    return this.#interfaceAddresses().some((entry) => isInSubnetOf(host, entry)) ? 'lan' : 'direct'
  }

  /** Stays the same for as long as the connection stands: its links are known by it. */
  ofConnection(connection: PeerConnection): 'lan' | 'direct' {
    const known = this.#known.get(connection)
    if (known !== undefined) return known
    const [, host = ''] = /^\/[^/]+\/([^/]+)/.exec(connection.address) ?? []
    const name = this.ofAddress(host)
    this.#known.set(connection, name)
    return name
  }
}

/** The same for a link that is not relayed. */
export function directNameOf({ path }: Link): 'lan' | 'direct' | 'punched' {
  return path === 'lan' || path === 'punched' ? path : 'direct'
}
