import type { Snapshot } from '../catalog/index.ts'
import {
  type EndpointPort,
  type EndpointSlice,
  type Ipv4Network,
  keyOf,
  type Service,
  type ServicePortId,
} from '../model/index.ts'
import { everythingReached } from './reach/reached-endpoints.ts'
import type { PlannedServicePort, PlanOptions } from './service-plan.ts'
import { isHandled, isUsableAddress } from './service-port-plan.ts'

/** One endpoint of a headless Service on another node, which clients reach at an address of the synthetic range. */
export interface FarEndpoint {
  /** Names its address, which it keeps as long as it lives, also when the agent is restarted. */
  readonly id: string
  readonly nodeName: string
  readonly address: string
  /** Each port is carried at a synthetic address of its own; the first one has the endpoint's. */
  readonly ports: readonly (EndpointPort & { readonly id: ServicePortId })[]
}

/** Finds them again and again; what did not change is the same object as before. */
export type FarEndpointPlanner = (snapshot: Snapshot, options: PlanOptions) => readonly FarEndpoint[]

/** The name of an endpoint's address; undefined when the endpoint is reached at its own. */
export function farEndpointIdOf(
  service: Service,
  { nodeName, address }: { readonly nodeName: string | undefined; readonly address: string },
  options: FarEndpointOptions,
): string | undefined {
  if (!service.headless || nodeName === undefined || nodeName === options.nodeName) return undefined
  if (options.reached === everythingReached) return undefined
  if (!isHandled(service, options) || !isUsableAddress(address, options.syntheticNetwork)) return undefined
  return `endpoint ${keyOf(service)} ${nodeName}/${address}`
}

type FarEndpointOptions = Pick<PlanOptions, 'nodeName' | 'serviceFilterMode' | 'reached'> & {
  readonly syntheticNetwork: Ipv4Network
}

/** Makes a planner that remembers what it found last. */
export function createFarEndpointPlanner(): FarEndpointPlanner {
  let headless: { readonly services: Snapshot['services']; readonly list: readonly Service[] } | undefined
  let known = new Map<Service, { readonly slices: readonly EndpointSlice[]; readonly found: readonly FarEndpoint[] }>()
  let lastOptions: PlanOptions | undefined
  let last: readonly FarEndpoint[] = []
  return (snapshot, options) => {
    if (headless?.services !== snapshot.services) {
      const list = [...snapshot.services.values()].filter((service) => service.headless)
      headless = { services: snapshot.services, list }
    }
    const before = lastOptions === options ? known : new Map()
    known = new Map()
    for (const service of headless.list) {
      const slices = snapshot.slicesOf(service)
      const same = before.get(service)
      known.set(service, same?.slices === slices ? same : { slices, found: farEndpointsOf(service, slices, options) })
    }
    lastOptions = options
    const all = [...known.values()].flatMap(({ found }) => found)
    if (all.length !== last.length || all.some((endpoint, at) => endpoint !== last[at])) last = all
    return last
  }
}

function farEndpointsOf(service: Service, slices: readonly EndpointSlice[], options: PlanOptions): FarEndpoint[] {
  const found = new Map<string, FarEndpoint>()
  for (const { addressType, endpoints, ports } of slices) {
    if (addressType !== 'IPv4') continue
    for (const { nodeName = '', addresses } of endpoints) {
      const [address = ''] = addresses
      const id = nodeName === '' ? undefined : farEndpointIdOf(service, { nodeName, address }, options)
      if (id === undefined) continue
      const known = found.get(id)?.ports ?? []
      found.set(id, { id, nodeName, address, ports: withIds(id, [...known, ...ports], options) })
    }
  }
  return [...found.values()]
}

/** Each protocol and port once, of those that the userspace proxy carries. */
function withIds(id: string, ports: readonly EndpointPort[], { carriesDatagrams }: PlanOptions): FarEndpoint['ports'] {
  const distinct = new Map(ports.map((port) => [`${port.protocol}/${port.port}`, port]))
  const carried = [...distinct].filter(([, { protocol }]) => protocol === 'tcp' || carriesDatagrams)
  return carried.map(([key, port], at) => ({ ...port, id: at === 0 ? id : `${id} ${key}` }))
}

/**
 * Rules and routes of far endpoints by their addresses; the same objects as long as those stay. What clients know an
 * endpoint by stays the same when it is reached in another way.
 */
export function createFarServicePorts(): (
  endpoints: readonly FarEndpoint[],
  synthetic: ReadonlyMap<string, { readonly address: string }>,
  reached: PlanOptions['reached'],
) => readonly PlannedServicePort[] {
  const known = new WeakMap<FarEndpoint, FarPlan>()
  return (endpoints, synthetic, reached) =>
    endpoints.flatMap((endpoint) => {
      const at = synthetic.get(endpoint.id)?.address
      if (at === undefined) return []
      const last = known.get(endpoint)
      if (last?.at === at && last.reached === reached) return last.planned
      const ways = endpoint.ports.map(({ protocol, port }) => reached?.has({ ...endpoint, port }, protocol) === true)
      const isSame = last?.at === at && ways.every((isDirect, index) => isDirect === last.ways[index])
      const planned = isSame ? last.planned : plannedAt(at, endpoint, ways)
      known.set(endpoint, { at, reached, ways, planned })
      return planned
    })
}

interface FarPlan {
  readonly at: string
  readonly reached: PlanOptions['reached']
  /** For each port, whether it is reached by translation alone. */
  readonly ways: readonly boolean[]
  readonly planned: readonly PlannedServicePort[]
}

function plannedAt(
  at: string,
  { nodeName, address, ports }: FarEndpoint,
  ways: readonly boolean[],
): PlannedServicePort[] {
  const policy = { balancing: { kind: 'random' }, readsRequests: false, subsets: new Map(), notices: [] } as const
  return ports.map(({ id, protocol, port }, index) => {
    const backends = [{ nodeName, address, port }]
    const spread = ways[index] === true ? { direct: backends, userspace: [] } : { direct: [], userspace: backends }
    return { id, destinations: [{ protocol, address: at, port }], ...spread, reserve: [], policy }
  })
}
