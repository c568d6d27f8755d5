import type { Catalog, Snapshot } from '../../catalog/index.ts'
import type { NetworkView, NodeNetwork } from '../../linux/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../../observability/index.ts'
import { sleep, type TaskGroup } from '../../runtime/index.ts'
import type { ProxyConfig } from '../config.ts'
import { type ChosenRoutes, chooseHostRoutes, createAddressFinder } from './host-route-choice.ts'
import type { ReachPeers } from './reachability.ts'

/** What keeping routes to the pods of LAN neighbours needs. */
export interface HostRoutesOptions {
  readonly config: Pick<ProxyConfig, 'hostRoutes' | 'reachability' | 'syntheticRange'>
  readonly nodeName: string
  readonly catalog: Pick<Catalog, 'current' | 'isSynced'>
  /** Absent without a tunnel: then there are no routes. */
  readonly peers?: Pick<ReachPeers, 'lanAddresses'> | undefined
  readonly network: Pick<NodeNetwork, 'setNeighbourRoutes' | 'view' | 'watch'>
  /** Addresses that packets must never be led away from; the same set until they change. */
  readonly excludedAddresses?: (() => ReadonlySet<string>) | undefined
  readonly logger: Logger
  /** Replaced in tests; a monotonic clock. */
  readonly nowMs?: () => number
  /** Replaced in tests. */
  readonly sleep?: typeof sleep
}

/** How the pods of one LAN neighbour are routed. */
export interface HostRouteStatus {
  readonly node: string
  /** Where the tunnel has met it. */
  readonly gateway: string
  readonly networks: readonly string[]
  /** Why not all its pods are routed. */
  readonly reason?: string
}

/** Routes to the pods of LAN neighbours; disposal leaves them, as it does rules. */
export interface HostRoutes extends AsyncDisposable {
  status(): readonly HostRouteStatus[]
}

const lookEveryMs = 1_000
/** Connections outlive a restart of the neighbour's agent, and so do the routes that they take. */
const lingerMs = 60_000
const retryMs = 30_000
/** What others do and undo between two looks at the network shows nowhere else. */
const checkMs = 10_000
const none: ReadonlySet<string> = new Set()

/** Keeps them in sync from now on; where they are not wanted it removes those of an earlier run. */
export function startHostRoutes(options: HostRoutesOptions): HostRoutes {
  return new RunningHostRoutes(options)
}

/** What was looked at last. */
interface Seen {
  readonly snapshot: Pick<Snapshot, 'nodes' | 'services'>
  readonly excluded: ReadonlySet<string>
  readonly view: NetworkView
  readonly neighbours: string
}

class RunningHostRoutes implements HostRoutes {
  readonly #options: HostRoutesOptions
  readonly #nowMs: () => number
  readonly #tasks: TaskGroup
  readonly #neighbours = new Map<string, { readonly address: string; readonly metMs: number }>()
  #changes = 0
  #known: { readonly changes: number; readonly view: NetworkView } | undefined
  #seen: Seen | undefined
  #dueMs = Number.POSITIVE_INFINITY
  #status: readonly HostRouteStatus[] = []
  readonly #told = new Map<string, string>()
  #problem: string | undefined

  constructor(options: HostRoutesOptions) {
    this.#options = options
    this.#nowMs = options.nowMs ?? (() => performance.now())
    this.#tasks = createLoggedTasks(options.logger)
    const { config, peers } = options
    const lanAddresses = config.hostRoutes && config.reachability !== 'tunnel' ? peers?.lanAddresses : undefined
    this.#tasks.run('host routes', async (signal) => {
      if (lanAddresses === undefined) await this.#removeAll(signal)
      else await this.#keep(lanAddresses, signal)
    })
  }

  status(): readonly HostRouteStatus[] {
    return this.#status
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
  }

  async #removeAll(signal: AbortSignal): Promise<void> {
    const remove = async () => {
      const [failure] = await this.#options.network.setNeighbourRoutes([], signal)
      if (failure !== undefined) throw failure.error
    }
    const text = 'cannot remove the routes to pods of neighbours; trying again'
    while (!(await this.#succeeds(remove, text, signal))) await this.#pause(signal)
  }

  async #keep(lanAddresses: ReachPeers['lanAddresses'], signal: AbortSignal): Promise<void> {
    const { network } = this.#options
    using resources = new DisposableStack()
    let isWatching = false
    const look = async () => {
      if (!isWatching) resources.use(await network.watch(() => void this.#changes++))
      isWatching = true
      await this.#look(lanAddresses(), signal)
    }
    for (;;) {
      await this.#succeeds(look, 'cannot route pods of neighbours; trying again', signal)
      await this.#pause(signal)
    }
  }

  #pause(signal: AbortSignal): Promise<void> {
    return (this.#options.sleep ?? sleep)(lookEveryMs, signal)
  }

  /** A failure is told once, until it is another. */
  async #succeeds(act: () => Promise<void>, text: string, signal: AbortSignal): Promise<boolean> {
    try {
      await act()
      this.#problem = undefined
      return true
    } catch (error) {
      signal.throwIfAborted()
      const problem = describeError(error)
      if (problem !== this.#problem) this.#options.logger.warn({ error }, text)
      this.#problem = problem
      return false
    }
  }

  /** Does something only where anything is other than at the last look, and from time to time. */
  async #look(met: ReadonlyMap<string, string>, signal: AbortSignal): Promise<void> {
    const { catalog, excludedAddresses, nodeName, config } = this.#options
    if (!catalog.isSynced) return
    const isFirst = this.#seen === undefined
    const view = await this.#viewNow(signal)
    const { nodes, services } = catalog.current
    const snapshot = { nodes, services }
    if (isFirst) this.#remember(view, snapshot)
    const neighbours = this.#meet(met)
    const excluded = excludedAddresses?.() ?? none
    const seen = { snapshot, excluded, view, neighbours: [...neighbours].join(' ') }
    if (this.#nowMs() < this.#dueMs && isSame(this.#seen, seen)) return
    const addressIn = addressFinderOf(seen)
    const chosen = chooseHostRoutes({ ...config, nodeName, nodes, neighbours, view, addressIn })
    await this.#apply(chosen, signal)
    this.#seen = seen
  }

  /** The same object until the network of this node changes. */
  async #viewNow(signal: AbortSignal): Promise<NetworkView> {
    const changes = this.#changes
    if (this.#known?.changes === changes) return this.#known.view
    const view = await this.#options.network.view(signal)
    this.#known = { changes, view }
    return view
  }

  async #apply(chosen: readonly ChosenRoutes[], signal: AbortSignal): Promise<void> {
    const wanted = chosen.flatMap(({ routes }) => routes)
    const failures = await this.#options.network.setNeighbourRoutes(wanted, signal)
    this.#dueMs = this.#nowMs() + (failures.length === 0 ? checkMs : retryMs)
    this.#status = chosen.map(({ node, gateway, routes, reason: clash }) => {
      const failed = failures.filter(({ route }) => routes.includes(route))
      const reason = failed[0] === undefined ? clash : describeError(failed[0].error)
      const standing = routes.filter((route) => !failed.some((failure) => failure.route === route))
      const networks = standing.map(({ network }) => network)
      return { node, gateway, networks, ...(reason !== undefined && { reason }) }
    })
    this.#tell()
  }

  /** Each node's state once, until it is another. */
  #tell(): void {
    const { logger } = this.#options
    const gone = new Set(this.#told.keys())
    for (const { node, gateway: address, networks, reason } of this.#status) {
      gone.delete(node)
      const text = `${address} ${networks.join()} ${reason}`
      if (this.#told.get(node) === text) continue
      this.#told.set(node, text)
      if (reason !== undefined) logger.warn({ node, address, reason }, 'pods of a neighbour are not routed to it')
      else logger.info({ node, address, reason: networks.join(', ') }, 'pods of a neighbour are routed to it')
    }
    for (const node of gone) {
      this.#told.delete(node)
      logger.info({ node }, 'pods of a former neighbour are not routed any more')
    }
  }

  /** Neighbours that were met lately, and where; nobody stays at an address at which another one was met now. */
  #meet(met: ReadonlyMap<string, string>): ReadonlyMap<string, string> {
    const nowMs = this.#nowMs()
    const addresses = new Set(met.values())
    for (const [name, { address, metMs }] of this.#neighbours) {
      if (nowMs - metMs > lingerMs || addresses.has(address)) this.#neighbours.delete(name)
    }
    for (const [name, address] of met) this.#neighbours.set(name, { address, metMs: nowMs })
    const sorted = [...this.#neighbours].sort(([left], [right]) => (left < right ? -1 : 1))
    return new Map(sorted.map(([name, { address }]) => [name, address]))
  }

  /** Routes of an earlier run stay until the tunnel has had time to meet these neighbours again. */
  #remember(view: NetworkView, { nodes }: Pick<Snapshot, 'nodes'>): void {
    for (const { network, gateway, isOurs } of view.routes) {
      if (isOurs !== true || gateway === undefined) continue
      for (const { name, podCIDRs } of nodes.values()) {
        if (podCIDRs.includes(network)) this.#neighbours.set(name, { address: gateway, metMs: this.#nowMs() })
      }
    }
  }
}

function isSame(last: Seen | undefined, { snapshot, excluded, view, neighbours }: Seen): boolean {
  return (
    last?.snapshot.nodes === snapshot.nodes &&
    last.snapshot.services === snapshot.services &&
    last.excluded === excluded &&
    last.view === view &&
    last.neighbours === neighbours
  )
}

function addressFinderOf({ snapshot: { nodes, services }, excluded }: Seen) {
  const named: (readonly [string, string])[] = [...excluded].map((address) => [
    address,
    'an address that this node needs:',
  ])
  for (const { clusterIPs } of services.values())
    for (const address of clusterIPs) named.push([address, 'the Service address'])
  for (const { name, internalIPs } of nodes.values())
    for (const address of internalIPs) named.push([address, `the node ${name} at`])
  return createAddressFinder(named)
}
