import type { Carrier } from '../flows/carrier.ts'
import type { PeerConnection } from '../host/peer-connection.ts'
import type { Link } from '../links/link.ts'
import { createLinkCarrier } from '../links/link-carrier.ts'
import type { PeerLinks } from '../links/peer-links.ts'

/** What a carrier runs on. */
export interface Way {
  readonly way: PeerConnection | Link
  /** The relay in between. */
  readonly relay: string | undefined
  probe(): void
}

/** A link that flows to a node may begin on. */
export interface LinkWay {
  readonly nodeName: string
  readonly peer: PeerLinks
  readonly link: Link
  /** Who has joined it; undefined for a direct one. */
  readonly relay: string | undefined
}

/** The carriers of one link. */
export interface OverLink {
  readonly way: LinkWay
  readonly plain: Carrier
  /** Tries another way where this one is silent. */
  readonly hedged: Carrier
  /** When more links to the peer are wanted again, as `performance.now()` tells it. */
  nextWantMs: number
}

/** Carriers over links, made once for each link: flows come and go by the thousand. */
export class LinkCarriers {
  readonly #hedge: (way: LinkWay, plain: Carrier) => Carrier
  readonly #known = new WeakMap<Link, OverLink>()

  constructor(hedge: (way: LinkWay, plain: Carrier) => Carrier) {
    this.#hedge = hedge
  }

  of(way: LinkWay): OverLink {
    const known = this.#known.get(way.link)
    if (known !== undefined && known.way.nodeName === way.nodeName && known.way.relay === way.relay) return known
    const plain = createLinkCarrier(way.peer, way.link)
    const over: OverLink = { way, plain, hedged: this.#hedge(way, plain), nextWantMs: 0 }
    this.#known.set(way.link, over)
    return over
  }
}
