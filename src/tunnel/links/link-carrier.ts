import type { Carrier } from '../flows/carrier.ts'
import type { Link } from './link.ts'
import type { PeerLinks } from './peer-links.ts'

/** A carrier over the links to a peer, one of which has been seen to be the best now. */
export function createLinkCarrier(peer: PeerLinks, { path }: Link): Carrier {
  return {
    peerId: peer.peerId,
    path,
    open: (request, signal) => peer.open(request, signal),
    openDatagrams: (request, signal) => peer.openDatagrams(request, signal),
  }
}

/** A carrier over this link alone, for what has met with silence on others. */
export function createCarrierOver(peer: PeerLinks, link: Link): Carrier {
  return {
    peerId: peer.peerId,
    path: link.path,
    open: (request, signal) => peer.open(request, signal, link),
    openDatagrams: (request, signal) => peer.openDatagrams(request, signal, link),
  }
}
