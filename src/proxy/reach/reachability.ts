import { isDeepStrictEqual } from 'node:util'
import type { Snapshot } from '../../catalog/index.ts'
import type { NetworkView } from '../../linux/index.ts'
import { type Backend, isInIpv4Network } from '../../model/index.ts'
import { type ByteStream, type Dialer, resetStream, type SocketAddress } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import type { ProxyConfig } from '../config.ts'
import type { NetworkFacts } from '../kernel/network-facts.ts'
import { type ReachAnswerer, startReachAnswerer } from './answerer.ts'
import { type Confirmations, createConfirmations } from './confirmations.ts'
import { createPlaces, type Places, placeIdOf, remotePlacesOf } from './places.ts'
import { type AskedPlace, createQuestioner, type Questioner } from './questioner.ts'
import { everythingReached, type ReachedEndpoints } from './reached-endpoints.ts'
import { type RouteFacts, reasonAgainstRoute, routeFactsOf } from './routes.ts'

/** Other nodes, as the tunnel knows them. */
export interface ReachPeers {
  /** Opens a flow to the part of the node that takes keys; rejects when it has none. */
  openFlow(nodeName: string, signal: AbortSignal): Promise<ByteStream>
  /** Names of nodes to which the tunnel has a direct path now. */
  direct(): ReadonlySet<string>
  /** Names of nodes in a LAN with this one. */
  near(): ReadonlySet<string>
  /** The same by name, with the IPv4 addresses at which the tunnel is connected to them. */
  lanAddresses(): ReadonlyMap<string, string>
}

/** What reachability needs. */
export interface ReachabilityOptions {
  readonly mode: ProxyConfig['reachability']
  readonly nodeName: string
  readonly deviceName: string
  /** Absent without a tunnel. */
  readonly peers: ReachPeers | undefined
  /** Dials from this node's own network stack. */
  readonly direct: Dialer
  /** Whether an endpoint may have this address. */
  readonly isUsable: (address: string) => boolean
  /** Whether `contacted` is called for all that the kernel sends. */
  readonly seesUse: boolean
  /** Called when other endpoints are reached than before, or when peers begin or cease to ask. */
  readonly onChange: () => void
  readonly logger: Logger
}

/** Why endpoints of a node are reached as they are. */
export interface NodeReach {
  readonly node: string
  /** How many addresses of its endpoints are reached directly, and how many through the tunnel. */
  readonly direct: number
  readonly tunnelled: number
  /** Why not all are reached directly: the reason of the first. */
  readonly reason?: string
}

/** Which endpoints on other nodes the kernel may send to by itself (docs/decisions/0022). */
export interface Reachability extends AsyncDisposable {
  /** Undefined when none is; another object once others are. */
  readonly reached: ReachedEndpoints | undefined
  /** Dials from this node's own network stack. */
  readonly direct: Dialer
  /** Where questions of peers must be brought while there are any: addresses of endpoints here, and a local port. */
  readonly asked: AskedHere | undefined
  /**
   * Follows what is known; does nothing where all are the same objects as before. True when other questions than before
   * must be brought here.
   */
  follow(snapshot: Snapshot, view: NetworkView, facts: NetworkFacts): boolean
  /** Answers questions of peers from now on, at an address of the synthetic range; not where reachability is `tunnel`. */
  startAnswering(address: string | undefined): Promise<void>
  /** A connection to this endpoint failed. */
  suspect(endpoint: Backend): void
  /** A connection to this endpoint is about to be made. */
  used(endpoint: Backend): void
  /** The kernel has lately begun connections to these addresses. */
  contacted(addresses: ReadonlySet<string>): void
  /** Takes ownership of a flow of a peer that wants to ask here. */
  accept(stream: ByteStream): void
  status(): readonly NodeReach[]
}

/** Where questions arrive and where they must go. */
export interface AskedHere {
  readonly addresses: readonly string[]
  readonly socket: SocketAddress
}

/** Asks nobody before `follow` was called. */
export function createReachability(options: ReachabilityOptions): Reachability {
  return new RunningReachability(options)
}

interface Followed {
  readonly snapshot: Snapshot
  readonly view: NetworkView
  readonly facts: NetworkFacts
}

/** What follows from what is followed. */
interface Known {
  /** What the routes were read from. */
  readonly source: Omit<Followed, 'snapshot'> & { readonly podCIDRs: readonly string[] }
  readonly routes: RouteFacts
  readonly placesOf: (snapshot: Snapshot) => Places
  readonly places: Places
}

class RunningReachability implements Reachability {
  readonly #options: ReachabilityOptions
  readonly #questioner: Questioner
  readonly #confirmations: Confirmations
  #answerer: ReachAnswerer | undefined
  #followed: Followed | undefined
  #known: Known | undefined
  #asked: AskedHere | undefined
  #localAddresses: readonly string[] = []
  /** A pod of this node in whose name nothing can be asked. */
  #mutePod: string | undefined
  #neighbours: { readonly names: ReadonlySet<string>; readonly atMs: number } | undefined

  constructor(options: ReachabilityOptions) {
    const { peers, direct, logger, onChange, seesUse } = options
    this.#options = options
    const openFlow = peers?.openFlow.bind(peers) ?? (() => Promise.reject(new Error('there is no tunnel')))
    this.#questioner = createQuestioner({ openFlow, nowMs: () => performance.now() })
    this.#confirmations = createConfirmations({
      reasonAgainst: (place) => this.#reasonAgainst(place),
      sources: () => [undefined, ...(this.#known?.routes.podSources ?? [])],
      ask: (place, source, signal) => this.#questioner.ask(place, source, signal),
      accepts: (address, port, signal) => accepts(direct, address, port, signal),
      seesUse,
      onChange,
      logger,
      nowMs: () => performance.now(),
    })
  }

  async startAnswering(address: string | undefined): Promise<void> {
    const { onChange, logger, mode, peers } = this.#options
    if (mode === 'tunnel' || peers === undefined || address === undefined) return
    const isHere = (address: string) => this.#known?.places.local.has(address) === true
    const onAsked = () => {
      this.#look()
      onChange()
    }
    const nowMs = () => performance.now()
    try {
      this.#answerer = await startReachAnswerer({ address, isHere, onChange: onAsked, logger, nowMs })
    } catch (error) {
      logger.warn({ error, address }, 'peers cannot ask here, and reach endpoints of this node through the tunnel')
    }
  }

  get reached(): ReachedEndpoints | undefined {
    const { mode } = this.#options
    if (mode === 'direct') return everythingReached
    return mode === 'auto' ? this.#confirmations.reached : undefined
  }

  get direct(): Dialer {
    return this.#options.direct
  }

  get asked(): AskedHere | undefined {
    return this.#asked
  }

  follow(snapshot: Snapshot, view: NetworkView, facts: NetworkFacts): boolean {
    const last = this.#followed
    const asked = this.#asked
    if (last?.snapshot === snapshot && last.view === view) return false
    this.#followed = { snapshot, view, facts }
    this.#look()
    if (last !== undefined && last.view !== view) this.#confirmations.askAgain()
    return this.#asked !== asked
  }

  suspect(endpoint: Backend): void {
    this.#confirmations.suspect(endpoint)
  }

  used(endpoint: Backend): void {
    this.#confirmations.used(endpoint)
  }

  contacted(addresses: ReadonlySet<string>): void {
    this.#confirmations.contacted(addresses)
  }

  accept(stream: ByteStream): void {
    if (this.#answerer === undefined) resetStream(stream, new Error('nobody is asked here'))
    else this.#answerer.agree(stream)
  }

  status(): readonly NodeReach[] {
    const known = new Map(this.#confirmations.status().map((place) => [placeIdOf(place), place]))
    const nodes = new Map<string, { direct: number; tunnelled: number; reason?: string }>()
    const snapshot = this.#followed?.snapshot
    for (const place of snapshot === undefined ? [] : remotePlacesOf(snapshot, this.#options)) {
      const entry = nodes.get(place.nodeName) ?? { direct: 0, tunnelled: 0 }
      nodes.set(place.nodeName, entry)
      const reason = this.#reasonOf(place, known.get(placeIdOf(place)))
      if (reason === undefined) entry.direct += 1
      else {
        entry.tunnelled += 1
        entry.reason ??= reason
      }
    }
    return [...nodes].map(([node, entry]) => ({ node, ...entry })).sort((a, b) => (a.node < b.node ? -1 : 1))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#confirmations[Symbol.asyncDispose]()
    await this.#answerer?.[Symbol.asyncDispose]()
  }

  /** Brings all up to date with what is followed; costs what changed. */
  #look(): void {
    if (this.#followed === undefined) return
    const { mode, peers } = this.#options
    const last = this.#known
    const known = this.#knownNow(this.#followed)
    this.#known = known
    if (known.places.local !== last?.places.local || known.routes !== last.routes) {
      this.#localAddresses = [...known.places.local].sort()
      this.#mutePod = this.#localAddresses.find((address) => !canAskFor(address, known.routes))
    }
    this.#asked = this.#askedNow(this.#asked)
    if (mode !== 'auto' || peers === undefined || known.places.remote === last?.places.remote) return
    this.#confirmations.want(known.places.remote)
  }

  #knownNow({ snapshot, view, facts }: Followed): Known {
    const { nodeName, deviceName } = this.#options
    const podCIDRs = snapshot.nodes.get(nodeName)?.podCIDRs ?? []
    const source = { view, facts, podCIDRs }
    const last = this.#known
    if (last !== undefined && isDeepStrictEqual(last.source, source)) {
      return { ...last, places: last.placesOf(snapshot) }
    }
    const routes = routeFactsOf(view, { ...facts, deviceName, podCIDRs })
    // Most are in networks that no route leads to, and are not worth the memory.
    const isWanted = (address: string) => reasonAgainstRoute(address, routes) === undefined
    const placesOf = createPlaces({ ...this.#options, isWanted })
    return { source, routes, placesOf, places: placesOf(snapshot) }
  }

  /** The same object as long as it is equal. */
  #askedNow(last: AskedHere | undefined): AskedHere | undefined {
    if (this.#answerer?.isAsked !== true) return undefined
    const addresses = this.#localAddresses
    const isSame = last !== undefined && (last.addresses === addresses || last.addresses.join() === addresses.join())
    return isSame ? last : { addresses, socket: this.#answerer.at }
  }

  #reasonAgainst({ nodeName, address }: AskedPlace): string | undefined {
    if (this.#mutePod !== undefined) return `this node cannot ask in the name of its pods, such as ${this.#mutePod}`
    const against = this.#known === undefined ? 'not asked yet' : reasonAgainstRoute(address, this.#known.routes)
    if (against !== undefined) return against
    return this.#neighbourNames().has(nodeName) ? undefined : 'the tunnel has no direct path to it'
  }

  /** Asked for each place, so remembered for a moment. */
  #neighbourNames(): ReadonlySet<string> {
    const now = performance.now()
    if (this.#neighbours === undefined || now - this.#neighbours.atMs > neighboursMs) {
      this.#neighbours = { names: this.#options.peers?.direct() ?? new Set(), atMs: now }
    }
    return this.#neighbours.names
  }

  #reasonOf(place: AskedPlace, known: { readonly reason?: string } | undefined): string | undefined {
    const { mode, peers } = this.#options
    if (mode === 'direct') return undefined
    if (mode === 'tunnel') return 'edgeProxy.reachability is tunnel'
    if (peers === undefined) return 'edgeTunnel is off, through which it would be asked'
    if (known !== undefined) return known.reason
    return this.#known === undefined ? 'not asked yet' : reasonAgainstRoute(place.address, this.#known.routes)
  }
}

const neighboursMs = 500

/** Whether a question for this pod of the node can have a source whose answers come the way of answers to the pod. */
function canAskFor(address: string, { own, spokenFor }: RouteFacts): boolean {
  return own.has(address) || spokenFor.some((network) => isInIpv4Network(address, network))
}

async function accepts(direct: Dialer, address: string, port: number, signal: AbortSignal): Promise<boolean> {
  try {
    const stream = await direct.dial({ protocol: 'tcp', address, port }, signal)
    resetStream(stream, new Error('only asked whether it accepts'))
    return true
  } catch {
    return false
  }
}
