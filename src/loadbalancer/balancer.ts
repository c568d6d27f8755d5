import { type Backend, backendIdOf } from '../model/index.ts'
import { type AffinityTable, createAffinityTable } from './affinity-table.ts'
import {
  type Candidate,
  createCandidate,
  isAvoided,
  noteFailure,
  noteSlowness,
  noteSuccess,
  noteTurn,
  usualOutlierDetection,
} from './candidate.ts'
import { type Choose, type Client, createChooser } from './choose.ts'
import { type PartitionedRing, usualRing } from './key-ring.ts'
import type { ResolvedPolicy } from './resolve-policy.ts'

/** What the balancer may not know by itself. */
export interface BalancerSurroundings {
  /** Returns 0..1, 1 excluded. */
  readonly random: () => number
  /** Milliseconds on a clock that never goes back. */
  readonly nowMs: () => number
  /** `loadBalancer.consistentHash` of the configuration; absent for its defaults. */
  readonly ring?: PartitionedRing | undefined
}

/** The part of a ServicePort's policy that a balancer follows. */
export type BalancerPolicy = Pick<ResolvedPolicy, 'balancing' | 'affinitySeconds' | 'outlierDetection'>

/** Picks backends for one ServicePort. */
export interface Balancer {
  /** Changes how backends are picked; what is known of them stays. An equal policy also keeps clients' affinity. */
  setPolicy(policy: BalancerPolicy): void
  /** Replaces the backends; those known before (same node, address and port) keep their turn and their failures. */
  setBackends(preferred: readonly Backend[], others: readonly Backend[]): void
  /** Whether it is one of the backends. */
  has(backend: Backend): boolean
  /**
   * The backends in the order to try them, each once: the client's own while affinity lasts, preferred ones, then
   * others, then those that failed a short while ago. Each step is decided when it is asked for, so a retry knows what
   * other connections learnt.
   */
  attempts(client?: Client): IterableIterator<Backend>
  /** The dial takes long: the backend is tried last for the next 5 s, without being blamed. */
  dialSlow(backend: Backend): void
  /**
   * The backend could not be dialled. When the policy has it ejected it is tried last, longer each time it fails again,
   * then with one connection at a time.
   */
  dialFailed(backend: Backend): void
  /** The backend answered; it is this client's from now on, where the policy has affinity. */
  dialSucceeded(backend: Backend, client?: Client): void
  /** Counts a connection or request as open until disposal, for policies that look at it. */
  hold(backend: Backend): Disposable
}

/** Makes a balancer without backends. */
export function createBalancer(policy: BalancerPolicy, surroundings: BalancerSurroundings): Balancer {
  return new LazyBalancer(policy, surroundings)
}

/** Takes little room until it is asked for something: of thousands of ServicePorts most never are. */
class LazyBalancer implements Balancer {
  readonly #surroundings: BalancerSurroundings
  #policy: BalancerPolicy
  #preferred: readonly Backend[] = []
  #others: readonly Backend[] = []
  #inUse: Balancer | undefined

  constructor(policy: BalancerPolicy, surroundings: BalancerSurroundings) {
    this.#surroundings = surroundings
    this.#policy = policy
  }

  setPolicy(policy: BalancerPolicy): void {
    this.#policy = policy
    this.#inUse?.setPolicy(policy)
  }

  setBackends(preferred: readonly Backend[], others: readonly Backend[]): void {
    this.#preferred = preferred
    this.#others = others
    this.#inUse?.setBackends(preferred, others)
  }

  has(backend: Backend): boolean {
    return this.#used().has(backend)
  }

  attempts(client?: Client): IterableIterator<Backend> {
    return this.#used().attempts(client)
  }

  dialSlow(backend: Backend): void {
    this.#used().dialSlow(backend)
  }

  dialFailed(backend: Backend): void {
    this.#used().dialFailed(backend)
  }

  dialSucceeded(backend: Backend, client?: Client): void {
    this.#used().dialSucceeded(backend, client)
  }

  hold(backend: Backend): Disposable {
    return this.#used().hold(backend)
  }

  #used(): Balancer {
    if (this.#inUse === undefined) {
      this.#inUse = new PolicyBalancer(this.#policy, this.#surroundings)
      this.#inUse.setBackends(this.#preferred, this.#others)
    }
    return this.#inUse
  }
}

class Hold implements Disposable {
  #candidate: Candidate | undefined

  constructor(candidate: Candidate | undefined) {
    this.#candidate = candidate
    if (candidate !== undefined) candidate.open += 1
  }

  [Symbol.dispose](): void {
    if (this.#candidate !== undefined) this.#candidate.open -= 1
    this.#candidate = undefined
  }
}

class PolicyBalancer implements Balancer {
  readonly #surroundings: BalancerSurroundings
  #byId = new Map<string, Candidate>()
  #all: readonly Candidate[] = []
  #turn = 0
  #policy: BalancerPolicy
  #choose: Choose
  #affinity: AffinityTable | undefined

  constructor(policy: BalancerPolicy, surroundings: BalancerSurroundings) {
    this.#surroundings = surroundings
    this.#policy = policy
    this.#choose = this.#chooserOf(policy)
    this.#affinity = this.#affinityOf(policy)
  }

  setPolicy(policy: BalancerPolicy): void {
    const before = this.#policy
    this.#policy = policy
    if (JSON.stringify(before.balancing) !== JSON.stringify(policy.balancing)) this.#choose = this.#chooserOf(policy)
    if (before.affinitySeconds !== policy.affinitySeconds) this.#affinity = this.#affinityOf(policy)
  }

  setBackends(preferred: readonly Backend[], others: readonly Backend[]): void {
    const next = new Map<string, Candidate>()
    for (const backend of others) this.#keep(next, backend, false)
    for (const backend of preferred) this.#keep(next, backend, true)
    this.#byId = next
    this.#all = [...next.values()]
  }

  has(backend: Backend): boolean {
    return this.#byId.has(backendIdOf(backend))
  }

  *attempts(client: Client = {}): IterableIterator<Backend> {
    const tried = new Set<Candidate>()
    while (true) {
      const chosen = this.#ownOf(client, tried) ?? this.#choose(this.#bestTier(tried), client)
      if (chosen === undefined) return
      tried.add(chosen)
      this.#takeTurn(chosen, client)
      yield chosen.backend
    }
  }

  dialSlow(backend: Backend): void {
    this.#update(backend, (candidate) => noteSlowness(candidate, this.#surroundings.nowMs()))
  }

  dialFailed(backend: Backend): void {
    this.#update(backend, (candidate) => noteFailure(candidate, this.#all, this.#detection, this.#surroundings.nowMs()))
  }

  dialSucceeded(backend: Backend, client: Client = {}): void {
    this.#update(backend, (candidate) => {
      noteSuccess(candidate)
      this.#remember(client, candidate)
    })
  }

  hold(backend: Backend): Disposable {
    return new Hold(this.#byId.get(backendIdOf(backend)))
  }

  get #detection() {
    return this.#policy.outlierDetection ?? usualOutlierDetection
  }

  #chooserOf({ balancing }: BalancerPolicy): Choose {
    const { random, ring = usualRing } = this.#surroundings
    return createChooser(balancing, { random, ring, all: () => this.#all })
  }

  #affinityOf({ affinitySeconds }: BalancerPolicy): AffinityTable | undefined {
    if (affinitySeconds === undefined) return undefined
    return createAffinityTable(affinitySeconds * 1_000, this.#surroundings.nowMs)
  }

  #keep(next: Map<string, Candidate>, backend: Backend, preferred: boolean): void {
    const id = backendIdOf(backend)
    // A new one waits in random order below every turn so far, so that not every node starts with the same backend.
    const candidate = next.get(id) ?? this.#byId.get(id) ?? createCandidate(id, backend, -this.#surroundings.random())
    next.set(id, Object.assign(candidate, { backend, preferred }))
  }

  /** The backend that the client had, as long as it may be used. */
  #ownOf(client: Client, tried: ReadonlySet<Candidate>): Candidate | undefined {
    // Without affinity nobody asks the kernel for the address.
    if (this.#affinity === undefined || client.address === undefined) return undefined
    const { address } = client
    const own = this.#byId.get(this.#affinity.find(address) ?? '')
    if (own === undefined || tried.has(own) || isAvoided(own, this.#surroundings.nowMs())) return undefined
    return own
  }

  #takeTurn(candidate: Candidate, client: Client): void {
    this.#turn += 1
    noteTurn(candidate, this.#turn, this.#detection, this.#surroundings.nowMs())
    // Already now, so that two connections which a new client opens at once meet the same backend.
    this.#remember(client, candidate)
  }

  #remember(client: Client, { id }: Candidate): void {
    if (this.#affinity !== undefined && client.address !== undefined) this.#affinity.remember(client.address, id)
  }

  #update(backend: Backend, change: (candidate: Candidate) => void): void {
    const candidate = this.#byId.get(backendIdOf(backend))
    if (candidate !== undefined) change(candidate)
  }

  /** The best of the candidates not tried yet: any that is not avoided before those that are, then preferred first. */
  #bestTier(tried: ReadonlySet<Candidate>): Candidate[] {
    const now = this.#surroundings.nowMs()
    let bestRank = Number.POSITIVE_INFINITY
    let tier: Candidate[] = []
    for (const candidate of this.#all) {
      if (tried.has(candidate)) continue
      const rank = (isAvoided(candidate, now) ? 2 : 0) + (candidate.preferred ? 0 : 1)
      if (rank < bestRank) tier = []
      if (rank <= bestRank) tier.push(candidate)
      bestRank = Math.min(bestRank, rank)
    }
    return tier
  }
}
