import type { BalancingPolicy, HashKey, HashRing } from '../model/index.ts'
import type { Candidate } from './candidate.ts'
import { createKeyRing, type KeyRing, type PartitionedRing } from './key-ring.ts'

/** What is known of who connects. */
export interface Client {
  /** The address without the port. */
  readonly address?: string | undefined
  /** The value of the request's header, cookie or parameter that the policy names; absent when it has none. */
  readonly key?: string | undefined
}

/** Picks one of the candidates that come into question; undefined when there are none. */
export type Choose = (tier: readonly Candidate[], client: Client) => Candidate | undefined

/** What choosers need besides the policy. */
export interface ChooserSurroundings {
  readonly random: () => number
  readonly ring: PartitionedRing
  /** All candidates; a new list whenever one joins or leaves. */
  readonly all: () => readonly Candidate[]
}

/** The chooser of a policy. */
export function createChooser(policy: BalancingPolicy, surroundings: ChooserSurroundings): Choose {
  const { random } = surroundings
  switch (policy.kind) {
    case 'round-robin':
      return longestWaitingOf
    case 'random':
    case 'passthrough':
      return (tier) => randomOf(tier, random)
    case 'least-request':
      return (tier) => lessBusyOfTwo(tier, random)
    case 'consistent-hash':
      return hashChooser(policy, surroundings)
    default:
      return policy satisfies never
  }
}

/** Whoever waited longest is next: that is round robin, and it stays fair while backends come, go and fail. */
function longestWaitingOf(tier: readonly Candidate[]): Candidate | undefined {
  let longest = tier[0]
  for (const candidate of tier) {
    if (longest === undefined || candidate.lastTurn < longest.lastTurn) longest = candidate
  }
  return longest
}

function randomOf(tier: readonly Candidate[], random: () => number): Candidate | undefined {
  return tier[Math.floor(random() * tier.length)]
}

/** Of two drawn at random the less busy one: nearly as even as asking all of them, and no herd runs to a new one. */
function lessBusyOfTwo(tier: readonly Candidate[], random: () => number): Candidate | undefined {
  if (tier.length < 2) return tier[0]
  const first = Math.floor(random() * tier.length)
  const second = (first + 1 + Math.floor(random() * (tier.length - 1))) % tier.length
  const [one, other] = [tier[first], tier[second]]
  return (other?.open ?? 0) < (one?.open ?? 0) ? other : one
}

/** Without a key there is nothing to hash, and it is random. */
function hashChooser(policy: { readonly key: HashKey; readonly ring: HashRing }, surroundings: ChooserSurroundings) {
  let placed: { readonly all: readonly Candidate[]; readonly sorted: Candidate[]; readonly ring: KeyRing } | undefined
  const place = (all: readonly Candidate[]) => {
    // Sorted, so that every node has the same ring.
    const sorted = [...all].sort((left, right) => (left.id < right.id ? -1 : 1))
    const ring = createKeyRing(
      sorted.map(({ id }) => id),
      policy.ring,
      surroundings.ring,
    )
    return { all, sorted, ring }
  }
  const placedFor = (all: readonly Candidate[]) => {
    if (placed?.all !== all) placed = place(all)
    return placed
  }
  const choose: Choose = (tier, { address, key }) => {
    const hashed = policy.key.kind === 'source-ip' ? address : key
    if (hashed === undefined || tier.length === 0) return randomOf(tier, surroundings.random)
    const { ring, sorted } = placedFor(surroundings.all())
    const open = new Set(tier)
    for (const index of ring.walk(hashed)) {
      const candidate = sorted[index]
      if (candidate !== undefined && open.has(candidate)) return candidate
    }
    return tier[0]
  }
  return choose
}
