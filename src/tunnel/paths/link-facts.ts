import type { PeerLinks } from '../links/peer-links.ts'
import type { LinkFacts } from '../tunnel.ts'

/** What status shows of the links to a peer; undefined without any. */
export function linkFactsOf({ links, bytes }: Pick<PeerLinks, 'links' | 'bytes'>): LinkFacts | undefined {
  if (links.size === 0) return undefined
  const roundTrips = [...links].flatMap(({ roundTripMs }) => roundTripMs ?? [])
  const measured = roundTrips.length === 0 ? {} : { roundTripMs: Math.min(...roundTrips) }
  return { count: links.size, bytesSent: bytes.written, bytesReceived: bytes.read, ...measured }
}
