import type { Carrier } from '../flows/carrier.ts'
import type { Link } from '../links/link.ts'
import { createCarrierOver } from '../links/link-carrier.ts'
import type { LinkTable } from '../links/link-table.ts'

/** Links to peers, and how to get some. */
export interface LinkSource {
  readonly table: Pick<LinkTable, 'peer'>
  /** Begins to make links to the peer, unless there are enough; nothing waits for it. */
  want(peerId: string): void
  /** For how many milliseconds more the first link is worth waiting for; 0 when none is being made, or none can be. */
  hopeMs(peerId: string): number
  /** A link through any relay but this one; undefined when there is no such relay. */
  another(peerId: string, relayPeerId: string | undefined): Promise<Link | undefined>
  /** Why no better path was found last time. */
  lastErrorOf(peerId: string): string | undefined
}

/** A carrier over a link through any relay but this one; undefined when there is none, and none can be made. */
export async function carrierBeside(
  links: LinkSource | undefined,
  peerId: string,
  relayPeerId: string | undefined,
): Promise<Carrier | undefined> {
  const link = await links?.another(peerId, relayPeerId).catch(() => undefined)
  const peer = links?.table.peer(peerId)
  return link && peer && createCarrierOver(peer, link)
}
