import type { LinkKind } from './hello.ts'
import type { Link } from './link.ts'

/** What the choice among links looks at. */
export type ChosenLink = Pick<Link, 'kind' | 'isOpen' | 'isDirect' | 'flows'>

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
 * The link that the next flow begins on; the first of the usable shared ones, without making a list for each flow. One that
 * is in doubt is the last choice.
 */
export function bestLink<T extends ChosenLink>(
  links: Iterable<T>,
  isRetiring: (link: T) => boolean,
  isDoubted: (link: T) => boolean = () => false,
): T | undefined {
  let best: T | undefined
  let doubted: T | undefined
  for (const link of links) {
    if (link.kind !== 'shared' || !link.isOpen || isRetiring(link)) continue
    if (isDoubted(link)) doubted = betterOf(link, doubted)
    else best = betterOf(link, best)
  }
  return best ?? doubted
}

function betterOf<T extends ChosenLink>(link: T, best: T | undefined): T {
  if (best === undefined) return link
  if (link.isDirect !== best.isDirect) return link.isDirect ? link : best
  return link.flows < best.flows ? link : best
}

/** The link for datagrams; none rather than a relayed one while others go directly. */
export function datagramLinkOf<T extends ChosenLink>(links: Iterable<T>): T | undefined {
  let relayed: T | undefined
  let hasDirect = false
  for (const link of links) {
    if (!link.isOpen) continue
    if (link.kind === 'datagram' && link.isDirect) return link
    if (link.kind === 'datagram') relayed = link
    hasDirect ||= link.kind === 'shared' && link.isDirect
  }
  return hasDirect ? undefined : relayed
}
