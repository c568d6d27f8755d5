import { differencesOf, type ReadableMap, ShardedMap } from '../runtime/index.ts'
import type { FarEndpoint } from './endpoint-plan.ts'
import { type ListDifference, listDifference } from './list-difference.ts'
import type { PlannedServicePort, Spread } from './service-plan.ts'
import type { SyntheticAddresses, SyntheticPlace } from './synthetic-addresses.ts'

/** All that is served or refused, and where the userspace proxy takes connections of it. */
export interface AddressedEntries {
  readonly entries: readonly PlannedServicePort[]
  /** Synthetic places by the ids of spreads. */
  readonly synthetic: ReadableMap<SyntheticPlace>
}

/**
 * The entries that are not what they were, themselves or by their addresses; undefined when addresses of entries
 * changed that stayed the same, so that all must be looked at.
 */
export function changedEntries(
  before: AddressedEntries,
  after: AddressedEntries,
): ListDifference<PlannedServicePort> | undefined {
  const difference = listDifference(before.entries, after.entries)
  const told = new Set<string>()
  for (const entry of [...difference.removed, ...difference.added]) {
    for (const { id } of spreadsOf(entry)) told.add(id)
  }
  for (const { key } of differencesOf(before.synthetic, after.synthetic)) if (!told.has(key)) return undefined
  return difference
}

/** Synthetic places, and how many ServicePorts found the range full. */
export interface Addressed {
  readonly synthetic: ReadableMap<SyntheticPlace>
  readonly missing: number
}

/**
 * Gives addresses again and again, and costs what changed. `others` have theirs from elsewhere; the same map as long as
 * they keep them.
 */
export type Addressing = (
  planned: readonly PlannedServicePort[],
  others: ReadonlyMap<string, SyntheticPlace>,
) => Addressed

/** The pool is the caller's, who takes addresses back that nothing planned uses. */
export function createAddressing(pool: SyntheticAddresses): Addressing {
  let last: AddressedState | undefined
  return (planned, others) => {
    const known = last?.others === others ? last : undefined
    const { removed, added } = listDifference(known?.planned ?? [], planned)
    const ids = new Set(userspaceIdsOf(added))
    const gone = userspaceIdsOf(removed).filter((id) => !ids.has(id))
    // Who found the range full is asked for again each time.
    const waiting = new Set([...(known?.waiting ?? []), ...ids])
    for (const id of gone) waiting.delete(id)
    const assigned = pool.assign(waiting)
    for (const id of assigned.keys()) waiting.delete(id)
    const base = known?.synthetic ?? ShardedMap.empty<SyntheticPlace>().updated(others.keys(), (id) => others.get(id))
    const keys = new Set([...gone, ...ids, ...assigned.keys()])
    const synthetic = keys.size === 0 ? base : base.updated(keys, (id) => assigned.get(id))
    last = { planned, others, synthetic, waiting, missing: waiting.size }
    return last
  }
}

interface AddressedState extends Addressed {
  readonly planned: readonly PlannedServicePort[]
  readonly others: ReadonlyMap<string, SyntheticPlace>
  readonly synthetic: ShardedMap<SyntheticPlace>
  /** Ids that have no address yet. */
  readonly waiting: ReadonlySet<string>
}

/** Where clients reach endpoints of headless Services on other nodes, and how many found the range full. */
export interface FarAddresses {
  /** The same map as long as the endpoints are the same and have their addresses. */
  readonly addresses: ReadonlyMap<string, SyntheticPlace>
  readonly missing: number
}

/** Gives them addresses again and again. */
export type FarAddressing = (far: readonly FarEndpoint[]) => FarAddresses

/** The pool is the caller's here too. */
export function createFarAddressing(pool: SyntheticAddresses): FarAddressing {
  let last: (FarAddresses & { readonly far: readonly FarEndpoint[] }) | undefined
  return (far) => {
    if (last?.far === far && last.missing === 0) return last
    const ids = new Set(far.flatMap(({ id, ports }) => [id, ...ports.map((port) => port.id)]))
    const addresses = pool.assign(ids)
    last = { far, addresses, missing: ids.size - addresses.size }
    return last
  }
}

/** The spreads of ServicePorts that need a synthetic address. */
function userspaceIdsOf(planned: readonly PlannedServicePort[]): string[] {
  const ids: string[] = []
  for (const entry of planned) {
    for (const spread of spreadsOf(entry)) if (needsUserspace(spread, entry)) ids.push(spread.id)
  }
  return ids
}

/** One, or two where connections from outside are spread in another way. */
export function spreadsOf(entry: PlannedServicePort): readonly Spread[] {
  const { external } = entry
  return external === undefined || external.spread.id === entry.id ? [entry] : [entry, external.spread]
}

/** Connections to a node port at a loopback address end in userspace, wherever their endpoint is. */
function needsUserspace({ id, userspace, direct }: Spread, { external }: PlannedServicePort): boolean {
  if (userspace.length > 0) return true
  return (
    direct.length > 0 && external?.spread.id === id && external.nodePort !== undefined && external.protocol === 'tcp'
  )
}
