import type { SocketAddress } from '../../net/index.ts'

/**
 * What lies between this node's listening port and its servers:
 *
 * - `open`: nothing, what changes no addresses, or a router that has opened a port;
 * - `preserving`: a NAT that keeps the port;
 * - `stable`: a NAT that shows another port, and the same one to everybody;
 * - `unknown`: a NAT that shows another port to the only server asked;
 * - `randomising`: a NAT that shows each server another port.
 */
export const mappings = ['open', 'preserving', 'stable', 'unknown', 'randomising'] as const

/** One of `mappings`. */
export type Mapping = (typeof mappings)[number]

/** How this node is seen from outside. */
export interface Appearance {
  readonly mapping: Mapping
  /** Where our listening port may be reached once we have dialled out, likeliest first. */
  readonly candidates: readonly SocketAddress[]
}

const maxCandidates = 4

/**
 * Tells what the NAT does from what servers have seen of one port; undefined when nobody has seen it.
 */
export function appearanceOf(
  seen: readonly SocketAddress[],
  localPort: number,
  ownAddresses: readonly string[],
): Appearance | undefined {
  const [first] = seen
  if (first === undefined) return undefined
  const mapping = mappingOf(seen, localPort, ownAddresses)
  const keptPort = seen.map(({ address }) => ({ address, port: localPort }))
  // Another node of the site may have had the port for a moment, so that the NAT could not keep it.
  const all = mapping === 'unknown' || mapping === 'randomising' ? [...seen, ...keptPort] : seen
  const unique = new Map(all.map((candidate) => [`${candidate.address}:${candidate.port}`, candidate]))
  return { mapping, candidates: [...unique.values()].slice(0, maxCandidates) }
}

/** Why no connection can be made between the two; undefined when it is worth an attempt. */
export function hindranceOf(here: Mapping, there: Mapping): string | undefined {
  if (here !== 'randomising' && there !== 'randomising') return undefined
  if (here === 'open' || there === 'open') return undefined
  const whose =
    here === there
      ? 'the NATs of both sides change'
      : `the NAT of ${here === 'randomising' ? 'this' : 'the other'} side changes`
  return `${whose} ports with each connection`
}

function mappingOf(seen: readonly SocketAddress[], localPort: number, ownAddresses: readonly string[]): Mapping {
  if (seen.every(({ port }) => port === localPort)) {
    return seen.every(({ address }) => ownAddresses.includes(address)) ? 'open' : 'preserving'
  }
  if (seen.length === 1) return 'unknown'
  return seen.every(({ port }) => port === seen[0]?.port) ? 'stable' : 'randomising'
}
