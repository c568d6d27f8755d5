import type { Snapshot } from '../catalog/index.ts'
import type { ServicePortPolicy } from '../loadbalancer/index.ts'
import {
  type Backend,
  type DestinationRule,
  type EndpointSlice,
  type Ipv4Network,
  keyOf,
  type Locality,
  type ObjectKey,
  type Protocol,
  type Service,
  type ServicePort,
  type ServicePortId,
  servicePortIdOf,
} from '../model/index.ts'
import { differencesOf, trimmed } from '../runtime/index.ts'
import type { KernelLimits } from './kernel/kernel-rules.ts'
import type { ReachedEndpoints } from './reach/reached-endpoints.ts'
import {
  clusterDestinationsOf,
  externalFrameOf,
  isHandled,
  planServicePort,
  type ServicePortFrame,
} from './service-port-plan.ts'

/** Where clients send: an address and a port. */
export interface Destination {
  readonly protocol: Protocol
  readonly address: string
  readonly port: number
}

/** The backends that connections are spread over. Without any they are refused. */
export interface Spread {
  /** Names the route of the userspace proxy. */
  readonly id: ServicePortId
  /** Endpoints that packets reach by translation alone: on this node, or on others where that is certain. */
  readonly direct: readonly Backend[]
  /** Endpoints that the userspace proxy dials. */
  readonly userspace: readonly Backend[]
  /** Endpoints that the userspace proxy dials when all others fail. */
  readonly reserve: readonly Backend[]
}

/** How one ServicePort is served on this node. */
export interface PlannedServicePort extends Spread {
  readonly destinations: readonly Destination[]
  readonly policy: ServicePortPolicy
  /** Absent when it can be reached at its ClusterIPs alone. */
  readonly external?: ExternalAccess
}

/** Where a ServicePort can be reached from outside the cluster, as well as from this node and its pods. */
export interface ExternalAccess {
  readonly protocol: Protocol
  /** External IPs and addresses of load balancers. */
  readonly destinations: readonly Destination[]
  /** The clients' addresses are left alone, whatever their way. */
  readonly keepsSources?: boolean
  /** The same port on every address of this node. */
  readonly nodePort?: number
  readonly spread: Spread
  /** Endpoints on this node, when who comes from outside is sent to these alone, and dropped when there is none. */
  readonly local?: readonly Backend[]
  /** Who may use the load balancer's addresses, as networks of which none lies in another; absent means everybody. */
  readonly guard?: { readonly destinations: readonly Destination[]; readonly networks: readonly string[] }
}

/** A port of this node that leads to a ServicePort. */
export interface NodePort {
  readonly protocol: Protocol
  readonly port: number
}

/** Where a load balancer asks whether this node has endpoints of a Service. */
export interface HealthCheck {
  readonly namespace: string
  readonly name: string
  readonly port: number
  readonly localEndpoints: number
}

/** What decides about Services besides their own fields. */
export interface PlanOptions {
  readonly nodeName: string
  /** The node's zone, when it is known. */
  readonly zone?: string | undefined
  readonly serviceFilterMode: 'FilterIfLabelExists' | 'FilterIfLabelDoesNotExists'
  readonly interceptKubernetesService: boolean
  /** How backends are picked where no rule says otherwise. */
  readonly balancing: 'round-robin' | 'random'
  /** Whether near endpoints come first where no rule says otherwise; absent means they do not. */
  readonly locality?: Locality
  /** Nodes of the same LAN. */
  readonly near?: ReadonlySet<string> | undefined
  /** The userspace proxy carries UDP as well. */
  readonly carriesDatagrams?: boolean
  /** Ids of endpoints that do not accept connections; left out where others are left. */
  readonly withdrawn?: ReadonlySet<string>
  /** Endpoints on other nodes that packets reach by translation alone; absent means none. */
  readonly reached?: ReachedEndpoints | undefined
  /** What rules of the kernel cannot do; absent when they can do everything. */
  readonly kernelLimits?: KernelLimits | undefined
  readonly syntheticNetwork: Ipv4Network
  /** Addresses never intercepted: our own API server, metaServer, servers and relays. */
  readonly excludedAddresses: ReadonlySet<string>
}

/** What to do for all ServicePorts. */
export interface ServicePlan {
  /** Sorted by Service, then in its own order; the same objects as in the plan before where nothing changed. */
  readonly servicePorts: readonly PlannedServicePort[]
  /** The addresses of all destinations, sorted, each once; the same array as long as they are the same Services. */
  readonly addresses: readonly string[]
  /** All destinations outside the cluster's own networks; the same array as long as they are the same Services. */
  readonly external: readonly Destination[]
  readonly nodePorts: readonly NodePort[]
  readonly healthChecks: readonly HealthCheck[]
}

/** Plans again and again; costs little where little changed. The same options must be the same object. */
export type ServicePlanner = (snapshot: Snapshot, options: PlanOptions) => ServicePlan

/** What follows from Services alone. */
interface Frame {
  readonly services: Snapshot['services']
  readonly options: PlanOptions
  readonly entries: readonly FrameEntry[]
  readonly addresses: readonly string[]
  readonly external: readonly Destination[]
  readonly nodePorts: readonly NodePort[]
  /** Those of Services that load balancers ask about. */
  readonly checked: readonly FrameEntry[]
}

interface FrameEntry extends ServicePortFrame {
  readonly key: ObjectKey
  /** The last plan, and what it was made from. */
  last?: {
    readonly slices: readonly EndpointSlice[]
    readonly rules: readonly DestinationRule[]
    readonly planned: PlannedServicePort | undefined
  }
}

/**
 * Left out: headless Services, those without an IPv4 ClusterIP, those filtered by label, default/kubernetes unless
 * asked for, and UDP ServicePorts whose endpoints are all on other nodes where datagrams are not carried. Of two
 * ServicePorts with the same destination the first gets it.
 */
export function createServicePlanner(): ServicePlanner {
  let frame: Frame | undefined
  let before: Snapshot | undefined
  return (snapshot, options) => {
    if (frame?.services !== snapshot.services || frame.options !== options) {
      frame = frameOf(snapshot.services, options, frame)
    }
    const changed = before === undefined ? new Set<ObjectKey>() : changedServices(before, snapshot)
    for (const entry of frame.entries) {
      if (entry.last === undefined || changed.has(entry.key)) plan(entry, snapshot, options)
    }
    const servicePorts = plannedIn(frame.entries)
    before = snapshot
    const { addresses, external, nodePorts, checked } = frame
    return { servicePorts, addresses, external, nodePorts, healthChecks: healthChecksOf(checked) }
  }
}

function plan(entry: FrameEntry, snapshot: Snapshot, options: PlanOptions): void {
  const slices = snapshot.slicesOf(entry.service)
  const rules = snapshot.destinationRulesOf(entry.service)
  if (entry.last?.slices === slices && entry.last.rules === rules) return
  entry.last = { slices, rules, planned: planServicePort(entry, snapshot, options) }
}

function plannedIn(entries: readonly FrameEntry[]): PlannedServicePort[] {
  const all: PlannedServicePort[] = []
  for (const { last } of entries) if (last?.planned !== undefined) all.push(last.planned)
  return all
}

/** Those whose endpoints or rules are not what they were. */
function changedServices(before: Snapshot, after: Snapshot): Set<ObjectKey> {
  const changed = new Set<ObjectKey>()
  for (const { key } of differencesOf(before.slicesByService, after.slicesByService)) changed.add(key)
  for (const { key } of differencesOf(before.rulesByService, after.rulesByService)) changed.add(key)
  return changed
}

function healthChecksOf(entries: readonly FrameEntry[]): HealthCheck[] {
  const checks = new Map<number, HealthCheck>()
  for (const { service, last } of entries) {
    const port = service.healthCheckNodePort
    if (port === undefined) continue
    // Endpoints are counted once, however many ports they serve.
    const localEndpoints = Math.max(checks.get(port)?.localEndpoints ?? 0, last?.planned?.external?.local?.length ?? 0)
    checks.set(port, { namespace: service.namespace, name: service.name, port, localEndpoints })
  }
  return [...checks.values()]
}

function frameOf(services: Snapshot['services'], options: PlanOptions, before: Frame | undefined): Frame {
  const known = new Map(before?.options === options ? before.entries.map((entry) => [entry.id, entry]) : [])
  const seen = new Set<string>()
  const entries = [...services.keys()].sort().flatMap((key) => {
    const service = services.get(key)
    if (service === undefined || !isIntercepted(service, options)) return []
    return service.ports.flatMap((port) => {
      const entry = entryOf(service, port, options, seen)
      if (entry === undefined) return []
      const same = known.get(entry.id)
      return same?.service === service && isSameEntry(same, entry) ? same : entry
    })
  })
  const addresses = new Set(entries.flatMap(({ destinations }) => destinations.map(({ address }) => address)))
  const external = entries.flatMap((entry) => entry.external?.destinations ?? [])
  const nodePorts = entries.flatMap(({ port, external }): NodePort[] => {
    return external?.nodePort === undefined ? [] : [{ protocol: port.protocol, port: external.nodePort }]
  })
  const checked = entries.filter(({ service }) => {
    return service.healthCheckNodePort !== undefined && service.externalTrafficPolicy === 'Local'
  })
  return { services, options, entries, addresses: [...addresses].sort(), external, nodePorts, checked }
}

function entryOf(service: Service, port: ServicePort, options: PlanOptions, seen: Set<string>): FrameEntry | undefined {
  const free = (destination: Destination) => isFirst(destination, seen)
  const destinations = trimmed(clusterDestinationsOf(service, port, options).filter(free))
  if (destinations.length === 0) return undefined
  const external = externalFrameOf(service, port, options, free)
  return { id: servicePortIdOf(service, port), key: keyOf(service), service, port, destinations, external }
}

/** Of the same Service: they differ only by what others took away. */
function isSameEntry(left: FrameEntry, right: FrameEntry): boolean {
  const countOf = ({ external }: FrameEntry) => [external?.destinations.length, external?.nodePort].join()
  return isSameList(left.destinations, right.destinations) && countOf(left) === countOf(right)
}

const isSameList = (left: readonly Destination[], right: readonly Destination[]): boolean =>
  left.length === right.length && left.every(({ address }, at) => address === right[at]?.address)

function isFirst({ protocol, address, port }: Destination, seen: Set<string>): boolean {
  const key = `${protocol} ${address} ${port}`
  if (seen.has(key)) return false
  seen.add(key)
  return true
}

function isIntercepted(service: Service, options: PlanOptions): boolean {
  if (service.headless || service.type === 'ExternalName') return false
  if (keyOf(service) === 'default/kubernetes' && !options.interceptKubernetesService) return false
  return isHandled(service, options)
}
