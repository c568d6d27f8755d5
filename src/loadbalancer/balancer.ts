import { type Backend, backendIdOf } from '../model/index.ts'

/** How a backend is picked. A closed union: a new kind is a compile error where kinds are told apart. */
export type BalancingPolicy = { readonly kind: 'round-robin' } | { readonly kind: 'random' }

/** What the balancer may not know by itself. */
export interface BalancerSurroundings {
  /** Returns 0..1, 1 excluded. */
  readonly random: () => number
  /** Milliseconds on a clock that never goes back. */
  readonly nowMs: () => number
}

/** Picks backends for one ServicePort. */
export interface Balancer {
  /** Replaces the backends; those known before (same node, address and port) keep their turn and their failure. */
  setBackends(preferred: readonly Backend[], others: readonly Backend[]): void
  /**
   * The backends in the order to try them, each once: preferred ones, then others, then those whose last dial failed a
   * short while ago. Each step is decided when it is asked for, so a retry knows what other connections learnt.
   */
  attempts(): IterableIterator<Backend>
  /** The backend could not be dialled: it is tried last for the next 5 s, then with one connection at a time. */
  dialFailed(backend: Backend): void
  dialSucceeded(backend: Backend): void
}

/** How long a backend is avoided after a failed dial. */
const avoidanceMs = 5_000

interface Candidate {
  backend: Backend
  preferred: boolean
  /** When it was last picked, counted in picks; the lowest has waited longest. */
  lastTurn: number
  /** Absent while its last dial is not known to have failed. */
  avoidedUntilMs: number | undefined
}

/** Makes a balancer without backends. */
export function createBalancer(policy: BalancingPolicy, { random, nowMs }: BalancerSurroundings): Balancer {
  let byId = new Map<string, Candidate>()
  let candidates: readonly Candidate[] = []
  let turn = 0
  const choose = chooserOf(policy, random)

  const takeTurn = (candidate: Candidate): Backend => {
    turn += 1
    candidate.lastTurn = turn
    // Once the avoidance is over one connection tries; the others go on avoiding until it is known how that went.
    if (candidate.avoidedUntilMs !== undefined) candidate.avoidedUntilMs = nowMs() + avoidanceMs
    return candidate.backend
  }
  const candidateOf = (backend: Backend, preferred: boolean): Candidate => {
    // A new one waits in random order below every turn so far, so that not every node starts with the same backend.
    const candidate = byId.get(backendIdOf(backend)) ?? newCandidate(backend, -random())
    return Object.assign(candidate, { backend, preferred })
  }

  return {
    setBackends(preferred, others) {
      const next = new Map<string, Candidate>()
      for (const backend of others) next.set(backendIdOf(backend), candidateOf(backend, false))
      for (const backend of preferred) next.set(backendIdOf(backend), candidateOf(backend, true))
      byId = next
      candidates = [...next.values()]
    },
    *attempts() {
      const tried = new Set<Candidate>()
      while (true) {
        const chosen = choose(bestTierOf(candidates, tried, nowMs()))
        if (chosen === undefined) return
        tried.add(chosen)
        yield takeTurn(chosen)
      }
    },
    dialFailed(backend) {
      const candidate = byId.get(backendIdOf(backend))
      if (candidate !== undefined) candidate.avoidedUntilMs = nowMs() + avoidanceMs
    },
    dialSucceeded(backend) {
      const candidate = byId.get(backendIdOf(backend))
      if (candidate !== undefined) candidate.avoidedUntilMs = undefined
    },
  }
}

function newCandidate(backend: Backend, lastTurn: number): Candidate {
  return { backend, preferred: false, lastTurn, avoidedUntilMs: undefined }
}

/** The best of the candidates not tried yet: any that is not avoided before those that are, then preferred first. */
function bestTierOf(candidates: readonly Candidate[], tried: ReadonlySet<Candidate>, now: number): Candidate[] {
  let bestRank = Number.POSITIVE_INFINITY
  let tier: Candidate[] = []
  for (const candidate of candidates) {
    if (tried.has(candidate)) continue
    const rank = rankOf(candidate, now)
    if (rank < bestRank) tier = []
    if (rank <= bestRank) tier.push(candidate)
    bestRank = Math.min(bestRank, rank)
  }
  return tier
}

function rankOf({ avoidedUntilMs, preferred }: Candidate, now: number): number {
  const isAvoided = avoidedUntilMs !== undefined && avoidedUntilMs > now
  return (isAvoided ? 2 : 0) + (preferred ? 0 : 1)
}

function chooserOf(
  policy: BalancingPolicy,
  random: () => number,
): (tier: readonly Candidate[]) => Candidate | undefined {
  switch (policy.kind) {
    case 'round-robin':
      return longestWaitingOf
    case 'random':
      return (tier) => tier[Math.floor(random() * tier.length)]
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
