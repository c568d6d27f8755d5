import type { LinkKind } from './hello.ts'
import type { Link } from './link.ts'

/** What the choice among links looks at. */
export type ChosenLink = Pick<Link, 'kind' | 'isOpen' | 'isDirect' | 'path' | 'flows'>

/** What else is known of links. */
export interface LinkPreference<T> {
  /** One of the two ends wants to close it. */
  isRetiring(link: T): boolean
  /** Nothing was heard on it; default: never. */
  isDoubted?(link: T): boolean
  /** How far its relay is, as a round trip in milliseconds; default: all are alike. */
  distanceOf?(link: T): number
}

/** A relay is nearer than another one when it saves at least so much of each round trip: measurements differ by chance. */
const nearerMs = 5
const nearerShare = 0.2

/** Those of a kind that new flows may use, best first: direct before relayed, then the one with the fewest flows. */
export function usableLinks<T extends ChosenLink>(
  links: Iterable<T>,
  kind: LinkKind,
  isRetiring: (link: T) => boolean,
): T[] {
  const usable = [...links].filter((link) => link.kind === kind && link.isOpen && !isRetiring(link))
  return usable.sort((left, right) => Number(right.isDirect) - Number(left.isDirect) || left.flows - right.flows)
}

/**
 * The link that the next flow begins on: a shared one, chosen without making a list for each flow. Direct before relayed,
 * then through the nearest relay, then the one with the fewest flows; one that is in doubt is the last choice.
 */
export function bestLink<T extends ChosenLink>(links: Iterable<T>, preference: LinkPreference<T>): T | undefined {
  let best: T | undefined
  let doubted: T | undefined
  for (const link of links) {
    if (link.kind !== 'shared' || !link.isOpen || preference.isRetiring(link)) continue
    if (preference.isDoubted?.(link)) doubted = betterOf(link, doubted, preference)
    else best = betterOf(link, best, preference)
  }
  return best ?? doubted
}

function betterOf<T extends ChosenLink>(link: T, best: T | undefined, { distanceOf }: LinkPreference<T>): T {
  if (best === undefined) return link
  if (link.isDirect !== best.isDirect) return link.isDirect ? link : best
  if (link.path !== best.path && !link.isDirect && distanceOf !== undefined) {
    const [there, here] = [distanceOf(link), distanceOf(best)]
    if (isNearer(there, here)) return link
    if (isNearer(here, there)) return best
  }
  return link.flows < best.flows ? link : best
}

function isNearer(leftMs: number, rightMs: number): boolean {
  return rightMs - leftMs > Math.max(nearerMs, nearerShare * rightMs)
}

/** What the choice of the link for datagrams looks at. */
export type ChosenDatagramLink = ChosenLink & Pick<Link, 'lastHeardMs' | 'probedSinceMs'>

/** A link that says nothing for this long after it was asked for a sign of life may be dead. */
const doubtMs = 2000

/**
 * The link for datagrams, the newest one that speaks: those before may be dead already. None rather than a relayed one while
 * others go directly.
 */
export function datagramLinkOf<T extends ChosenDatagramLink>(links: Iterable<T>, nowMs: number): T | undefined {
  let relayed: T | undefined
  let direct: T | undefined
  let hasDirect = false
  for (const link of links) {
    if (!link.isOpen) continue
    hasDirect ||= link.kind === 'shared' && link.isDirect
    if (link.kind !== 'datagram' || isSilent(link, nowMs)) continue
    if (link.isDirect) direct = link
    else relayed = link
  }
  return direct ?? (hasDirect ? undefined : relayed)
}

function isSilent({ lastHeardMs, probedSinceMs }: ChosenDatagramLink, nowMs: number): boolean {
  return probedSinceMs !== undefined && nowMs - Math.max(probedSinceMs, lastHeardMs) > doubtMs
}
