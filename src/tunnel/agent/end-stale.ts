import type { InterfaceAddress } from '../../linux/index.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'

/** What may be stale after a change of the network. */
export interface Standing {
  readonly connections: readonly Pick<PeerConnection, 'localAddress' | 'abort' | 'noteAsked'>[]
  readonly links: readonly Pick<Link, 'localAddress' | 'abandon' | 'probe'>[]
}

/**
 * Ends what was made from an address that this node no longer has, for nothing can come back to it, and asks all others
 * for a sign of life, so that those that lead nowhere any more are given up in seconds.
 */
export function endStale({ connections, links }: Standing, interfaces: readonly InterfaceAddress[]): void {
  const own = new Set(interfaces.map(({ address }) => address))
  const reasonOf = (address: string | undefined): Error | undefined => {
    if (address === undefined || own.has(address) || address.startsWith('127.')) return undefined
    return new Error(`this node no longer has the address ${address}`)
  }
  for (const connection of connections) {
    const reason = reasonOf(connection.localAddress)
    if (reason === undefined) connection.noteAsked(performance.now())
    else connection.abort(reason)
  }
  for (const link of links) {
    const reason = reasonOf(link.localAddress)
    if (reason === undefined) link.probe()
    else link.abandon(reason)
  }
}
