import type { Snapshot } from '../catalog/index.ts'
import { eligibleBackends, type Here, resolvePolicy, type ServicePortPolicy } from '../loadbalancer/index.ts'
import {
  type Backend,
  backendIdOf,
  type Ipv4Network,
  ipv4ToNumber,
  numberToIpv4,
  type Service,
  type ServicePort,
  type ServicePortId,
} from '../model/index.ts'
import { trimmed } from '../runtime/index.ts'
import type { Destination, ExternalAccess, PlannedServicePort, PlanOptions, Spread } from './service-plan.ts'

/** What of a ServicePort follows from its Service alone. */
export interface ServicePortFrame {
  readonly id: ServicePortId
  readonly service: Service
  readonly port: ServicePort
  readonly destinations: readonly Destination[]
  readonly external: ExternalFrame | undefined
}

type ExternalFrame = Omit<ExternalAccess, 'spread' | 'local'>

/** Networks whose addresses mean something else on every node, so that no endpoint can be there. */
const unusableNetworks: readonly Ipv4Network[] = [
  { base: 0, prefixLength: 8 },
  { base: 127 * 2 ** 24, prefixLength: 8 },
  { base: (169 * 256 + 254) * 2 ** 16, prefixLength: 16 },
  { base: 224 * 2 ** 24, prefixLength: 3 },
]

/** The same objects each time, so that ServicePorts share what follows from them. */
const policyDefaults = {
  'round-robin': { balancing: { kind: 'round-robin' } },
  random: { balancing: { kind: 'random' } },
} as const

const filterLabel = 'service.edgemesh.kubeedge.io/service-proxy-name'

/** Whether the configured filter leaves the Service to us. */
export function isHandled(
  { labels }: Pick<Service, 'labels'>,
  { serviceFilterMode }: Pick<PlanOptions, 'serviceFilterMode'>,
): boolean {
  const hasLabel = filterLabel in labels
  return serviceFilterMode === 'FilterIfLabelExists' ? !hasLabel : hasLabel
}

/** A ServicePort at its ClusterIPs. */
export function clusterDestinationsOf(service: Service, port: ServicePort, options: PlanOptions): Destination[] {
  return destinationsAt(service.clusterIPs, port, options)
}

/** A ServicePort at external IPs, load balancers and its node port; `isFree` says which destinations are not taken. */
export function externalFrameOf(
  service: Service,
  port: ServicePort,
  options: PlanOptions,
  isFree: (destination: Destination) => boolean,
): ExternalFrame | undefined {
  const { externalIPs = [], loadBalancerIPs = [], loadBalancerSourceRanges = [] } = service
  const { protocol, nodePort } = port
  const addresses = [...new Set([...externalIPs, ...loadBalancerIPs])]
  const destinations = destinationsAt(addresses, port, options).filter(isFree)
  const isNodePortFree = nodePort !== undefined && isFree({ protocol, address: 'node', port: nodePort })
  if (destinations.length === 0 && !isNodePortFree) return undefined
  const guarded = destinations.filter(({ address }) => loadBalancerIPs.includes(address))
  const isGuarded = loadBalancerSourceRanges.length > 0 && guarded.length > 0
  return {
    protocol,
    destinations,
    ...(isNodePortFree && { nodePort }),
    ...(isGuarded && { guard: { destinations: guarded, networks: outermostNetworks(loadBalancerSourceRanges) } }),
  }
}

/** How the ServicePort is served; undefined when this version cannot carry it. */
export function planServicePort(
  frame: ServicePortFrame,
  snapshot: Snapshot,
  options: PlanOptions,
): PlannedServicePort | undefined {
  const { id, service, port, destinations } = frame
  const usable = partOf(snapshot.backendsOf(service, port), ({ address }) => isUsable(address, options))
  const backends = port.protocol === 'tcp' ? withoutWithdrawn(usable, options) : usable
  const isElsewhere = ({ nodeName }: Backend) => nodeName !== options.nodeName
  const isFar = (backend: Backend) => isElsewhere(backend) && options.reached?.has(backend, port.protocol) !== true
  const staysHere = port.protocol === 'udp' && options.carriesDatagrams !== true
  if (staysHere && backends.length > 0 && backends.every(isFar)) return undefined
  const policy = resolvePolicy(service, port, snapshot.destinationRulesOf(service), policyDefaults[options.balancing])
  const spreadFor = (as: Service, name: ServicePortId, isAway: (backend: Backend) => boolean): Spread => {
    const { chosen, reserve } = eligibleBackends(backends, as, hereFor(policy, options))
    return spreadOf(name, chosen, reserve, { policy, frame, options, isAway })
  }
  const spread = spreadFor(service, id, isFar)
  if (frame.external === undefined) return { ...spread, destinations, policy }
  const { internalTrafficPolicy, ...open } = service
  // Answers of other nodes would go straight to clients outside, past the translation here.
  const isSame = internalTrafficPolicy !== 'Local' && !spread.direct.some(isElsewhere)
  const outside = isSame ? spread : spreadFor(open, `${id}, from outside`, isElsewhere)
  const isLocalOnly = service.externalTrafficPolicy === 'Local'
  const local = isLocalOnly && { local: backends.filter((backend) => !isElsewhere(backend)) }
  return { ...spread, destinations, policy, external: { ...frame.external, spread: outside, ...local } }
}

function withoutWithdrawn(backends: readonly Backend[], { withdrawn }: PlanOptions): readonly Backend[] {
  if (withdrawn === undefined || withdrawn.size === 0) return backends
  const left = backends.filter((backend) => !withdrawn.has(backendIdOf(backend)))
  return left.length > 0 ? left : backends
}

/** Nearness counts only where it is asked for. */
function hereFor({ locality }: ServicePortPolicy, options: PlanOptions): Here {
  const { nodeName, zone, near } = options
  const isNearest = (locality ?? options.locality) === 'nearest'
  return { nodeName, zone, ...(isNearest && { isNear: (name: string) => near?.has(name) === true }) }
}

interface SpreadingOptions {
  readonly policy: ServicePortPolicy
  readonly frame: ServicePortFrame
  readonly options: PlanOptions
  /** Tells backends that packets do not reach by translation alone. */
  readonly isAway: (backend: Backend) => boolean
}

/** Splits backends by how they are reached. What only userspace can do, it does for all of them. */
function spreadOf(
  id: ServicePortId,
  chosen: readonly Backend[],
  reserve: readonly Backend[],
  { policy, frame: { port }, options: { carriesDatagrams, kernelLimits }, isAway }: SpreadingOptions,
): Spread {
  const direct = partOf(chosen, (backend) => !isAway(backend))
  const others = partOf(chosen, isAway)
  if (port.protocol === 'udp' && carriesDatagrams !== true) return { id, direct, userspace: nobody, reserve: nobody }
  if (takesUserspace(policy, chosen.length, others.length) || exceeds(kernelLimits, policy, chosen.length))
    return { id, direct: nobody, userspace: chosen, reserve }
  return { id, direct, userspace: others, reserve: direct.length === 0 ? reserve : direct.concat(reserve) }
}

/** Lists are kept by the ten thousand: one of which nothing is left out stays the same, and empty ones are one. */
function partOf(backends: readonly Backend[], isIn: (backend: Backend) => boolean): readonly Backend[] {
  if (backends.every(isIn)) return backends
  return backends.some(isIn) ? trimmed(backends.filter(isIn)) : nobody
}

const nobody: readonly Backend[] = []

/**
 * Rules of the kernel cannot read requests, nor count open ones. They can hash addresses, but not in step with the
 * userspace proxy: when one backend goes, clients of others would move as well.
 */
function takesUserspace({ balancing, readsRequests, maxConnections }: ServicePortPolicy, all: number, others: number) {
  if (readsRequests || maxConnections !== undefined) return true
  if (all < 2) return false
  if (balancing.kind === 'least-request') return true
  return balancing.kind === 'consistent-hash' && others > 0
}

/** Whether the kernel's rules cannot spread connections over so many endpoints as the policy says. */
function exceeds(limits: PlanOptions['kernelLimits'], policy: ServicePortPolicy, all: number): boolean {
  if (limits === undefined || all < 2) return false
  if (!limits.spreads) return true
  if (policy.affinitySeconds !== undefined) return !limits.keepsClients
  return policy.balancing.kind === 'consistent-hash' && all > limits.hashedSlots
}

function destinationsAt(addresses: readonly string[], port: ServicePort, options: PlanOptions): Destination[] {
  return addresses
    .filter((address) => isUsable(address, options) && !options.excludedAddresses.has(address))
    .map((address) => ({ protocol: port.protocol, address, port: port.port }))
}

const isUsable = (address: string, { syntheticNetwork }: PlanOptions): boolean =>
  isUsableAddress(address, syntheticNetwork)

/** Whether an endpoint can be at this address: an IPv4 address with the same meaning on all nodes. */
export function isUsableAddress(address: string, syntheticNetwork: Ipv4Network): boolean {
  const value = ipv4ToNumber(address)
  if (value === undefined || holds(syntheticNetwork, value)) return false
  return !unusableNetworks.some((network) => holds(network, value))
}

const holds = ({ base, prefixLength }: Ipv4Network, address: number): boolean =>
  address >= base && address < base + 2 ** (32 - prefixLength)

/** IPv4 networks among the texts, without host bits, and without those that lie in another. */
function outermostNetworks(texts: readonly string[]): string[] {
  const networks = texts.flatMap((text) => networkIn(text.trim()) ?? [])
  networks.sort((left, right) => left.prefixLength - right.prefixLength || left.base - right.base)
  const outermost: Ipv4Network[] = []
  for (const network of networks) {
    if (!outermost.some((other) => holds(other, network.base))) outermost.push(network)
  }
  return outermost.map(({ base, prefixLength }) => `${numberToIpv4(base)}/${prefixLength}`)
}

function networkIn(text: string): Ipv4Network | undefined {
  const [address = '', length = '32'] = text.split('/')
  const value = ipv4ToNumber(address)
  const prefixLength = Number(length)
  if (value === undefined || !Number.isInteger(prefixLength) || prefixLength < 0 || prefixLength > 32) return undefined
  const size = 2 ** (32 - prefixLength)
  return { base: Math.floor(value / size) * size, prefixLength }
}
