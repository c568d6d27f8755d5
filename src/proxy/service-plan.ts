import type { Snapshot } from '../catalog/index.ts'
import {
  type Backend,
  type Ipv4Network,
  ipv4ToNumber,
  isInIpv4Network,
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

/**
 * What to do for each ServicePort, sorted by id. Left out: headless Services, those without an IPv4 ClusterIP, those
 * filtered by label, default/kubernetes unless asked for, and UDP ServicePorts whose endpoints are all on other nodes,
 * which this version cannot carry. Of two ServicePorts with the same destination the first by id gets it.
 */
export function planServicePorts(snapshot: Snapshot, options: PlanOptions): PlannedServicePort[] {
  const planned = [...snapshot.services.values()]
    .filter((service) => isIntercepted(service, options))
    .flatMap((service) => service.ports.flatMap((port) => planPort(snapshot, service, port, options)))
  planned.sort((left, right) => (left.id < right.id ? -1 : Number(left.id > right.id)))
  return withoutDuplicates(planned)
}

function isIntercepted(service: Service, options: PlanOptions): boolean {
  if (service.headless || service.type === 'ExternalName') return false
  if (keyOf(service) === 'default/kubernetes' && !options.interceptKubernetesService) return false
  const hasLabel = filterLabel in service.labels
  return options.serviceFilterMode === 'FilterIfLabelExists' ? !hasLabel : hasLabel
}

function planPort(
  snapshot: Snapshot,
  service: Service,
  port: ServicePort,
  options: PlanOptions,
): PlannedServicePort | [] {
  const destinations = service.clusterIPs
    .filter((address) => isUsable(address, options) && !options.excludedAddresses.has(address))
    .map((address) => ({ protocol: port.protocol, address, port: port.port }))
  if (destinations.length === 0) return []
  const backends = snapshot.backendsOf(service, port).filter(({ address }) => isUsable(address, options))
  const direct = backends.filter(({ nodeName }) => nodeName === options.nodeName)
  const others = backends.filter(({ nodeName }) => nodeName !== options.nodeName)
  if (port.protocol === 'udp' && direct.length === 0 && others.length > 0) return []
  const userspace = port.protocol === 'tcp' ? others : []
  return { id: servicePortIdOf(service, port), destinations, direct, userspace }
}

function isUsable(address: string, { syntheticNetwork }: PlanOptions): boolean {
  if (ipv4ToNumber(address) === undefined || isInIpv4Network(address, syntheticNetwork)) return false
  return !unusableNetworks.some((network) => isInIpv4Network(address, network))
}

function withoutDuplicates(planned: readonly PlannedServicePort[]): PlannedServicePort[] {
  const seen = new Set<string>()
  const isFirst = ({ protocol, address, port }: Destination) => {
    const key = `${protocol} ${address} ${port}`
    return !seen.has(key) && seen.add(key) !== undefined
  }
  return planned
    .map((entry) => ({ ...entry, destinations: entry.destinations.filter(isFirst) }))
    .filter(({ destinations }) => destinations.length > 0)
}
