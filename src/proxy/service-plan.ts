import type { Snapshot } from '../catalog/index.ts'
import {
  type Backend,
  type EndpointSlice,
  type Ipv4Network,
  ipv4ToNumber,
  keyOf,
  type Protocol,
  type Service,
  type ServicePort,
  type ServicePortId,
  servicePortIdOf,
} from '../model/index.ts'

/** Where clients send: a ClusterIP and a port. */
export interface Destination {
  readonly protocol: Protocol
  readonly address: string
  readonly port: number
}

/** How one ServicePort is served on this node. Without any backend its connections are refused. */
export interface PlannedServicePort {
  readonly id: ServicePortId
  readonly destinations: readonly Destination[]
  /** Endpoints on this node, which packets reach by translation alone. */
  readonly direct: readonly Backend[]
  /** Endpoints that the userspace proxy dials. */
  readonly userspace: readonly Backend[]
}

/** What decides about Services besides their own fields. */
export interface PlanOptions {
  readonly nodeName: string
  readonly serviceFilterMode: 'FilterIfLabelExists' | 'FilterIfLabelDoesNotExists'
  readonly interceptKubernetesService: boolean
  readonly syntheticNetwork: Ipv4Network
  /** Addresses never intercepted: our own API server, metaServer, servers and relays. */
  readonly excludedAddresses: ReadonlySet<string>
}

const filterLabel = 'service.edgemesh.kubeedge.io/service-proxy-name'

/** Networks whose addresses mean something else on every node, so that no endpoint can be there. */
const unusableNetworks: readonly Ipv4Network[] = [
  { base: 0, prefixLength: 8 },
  { base: 127 * 2 ** 24, prefixLength: 8 },
  { base: (169 * 256 + 254) * 2 ** 16, prefixLength: 16 },
  { base: 224 * 2 ** 24, prefixLength: 3 },
]

/** What to do for all ServicePorts. */
export interface ServicePlan {
  /** Sorted by Service, then in its own order; the same objects as in the plan before where nothing changed. */
  readonly servicePorts: readonly PlannedServicePort[]
  /** The addresses of all destinations, sorted, each once; the same array as long as they are the same Services. */
  readonly addresses: readonly string[]
}

/** Plans again and again; costs little where little changed. The same options must be the same object. */
export type ServicePlanner = (snapshot: Snapshot, options: PlanOptions) => ServicePlan

/** What follows from Services alone. */
interface Frame {
  readonly services: Snapshot['services']
  readonly options: PlanOptions
  readonly entries: readonly FrameEntry[]
  readonly addresses: readonly string[]
}

interface FrameEntry {
  readonly id: ServicePortId
  readonly service: Service
  readonly port: ServicePort
  readonly destinations: readonly Destination[]
  /** The last plan, and the slices it was made from. */
  last?: { readonly slices: readonly EndpointSlice[]; readonly planned: PlannedServicePort | undefined }
}

/**
 * Left out: headless Services, those without an IPv4 ClusterIP, those filtered by label, default/kubernetes unless
 * asked for, and UDP ServicePorts whose endpoints are all on other nodes, which this version cannot carry. Of two
 * ServicePorts with the same destination the first gets it.
 */
export function createServicePlanner(): ServicePlanner {
  let frame: Frame | undefined
  return (snapshot, options) => {
    if (frame?.services !== snapshot.services || frame.options !== options) {
      frame = frameOf(snapshot.services, options, frame)
    }
    const servicePorts: PlannedServicePort[] = []
    for (const entry of frame.entries) {
      const slices = snapshot.slicesOf(entry.service)
      if (entry.last?.slices !== slices) entry.last = { slices, planned: planEntry(entry, snapshot, options) }
      if (entry.last.planned !== undefined) servicePorts.push(entry.last.planned)
    }
    return { servicePorts, addresses: frame.addresses }
  }
}

function frameOf(services: Snapshot['services'], options: PlanOptions, before: Frame | undefined): Frame {
  const known = new Map(before?.options === options ? before.entries.map((entry) => [entry.id, entry]) : [])
  const seen = new Set<string>()
  const keys = [...services.keys()].sort()
  const entries = keys.flatMap((key) => {
    const service = services.get(key)
    if (service === undefined || !isIntercepted(service, options)) return []
    return service.ports.flatMap((port) => {
      const destinations = destinationsOf(service, port, options).filter((destination) => isFirst(destination, seen))
      if (destinations.length === 0) return []
      const entry: FrameEntry = { id: servicePortIdOf(service, port), service, port, destinations }
      const same = known.get(entry.id)
      return same?.service === service && isSameList(same.destinations, destinations) ? same : entry
    })
  })
  const addresses = new Set(entries.flatMap(({ destinations }) => destinations.map(({ address }) => address)))
  return { services, options, entries, addresses: [...addresses].sort() }
}

/** Of the same ServicePort: protocol and port are equal anyway. */
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
  const hasLabel = filterLabel in service.labels
  return options.serviceFilterMode === 'FilterIfLabelExists' ? !hasLabel : hasLabel
}

function destinationsOf(service: Service, port: ServicePort, options: PlanOptions): Destination[] {
  return service.clusterIPs
    .filter((address) => isUsable(address, options) && !options.excludedAddresses.has(address))
    .map((address) => ({ protocol: port.protocol, address, port: port.port }))
}

function planEntry(
  { id, service, port, destinations }: FrameEntry,
  snapshot: Snapshot,
  options: PlanOptions,
): PlannedServicePort | undefined {
  const usable = snapshot.backendsOf(service, port).filter(({ address }) => isUsable(address, options))
  const direct = usable.filter(({ nodeName }) => nodeName === options.nodeName)
  const others = usable.filter(({ nodeName }) => nodeName !== options.nodeName)
  if (port.protocol === 'udp' && direct.length === 0 && others.length > 0) return undefined
  const userspace = port.protocol === 'tcp' ? others : []
  return { id, destinations, direct, userspace }
}

function isUsable(address: string, { syntheticNetwork }: PlanOptions): boolean {
  const value = ipv4ToNumber(address)
  if (value === undefined || holds(syntheticNetwork, value)) return false
  return !unusableNetworks.some((network) => holds(network, value))
}

const holds = ({ base, prefixLength }: Ipv4Network, address: number): boolean =>
  address >= base && address < base + 2 ** (32 - prefixLength)
