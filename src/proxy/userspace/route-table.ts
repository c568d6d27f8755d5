import {
  type Balancer,
  type BalancerSurroundings,
  createBalancer,
  type ResolvedPolicy,
} from '../../loadbalancer/index.ts'
import type { Backend, Protocol, ServicePortId } from '../../model/index.ts'
import { differencesOf, type ReadableMap } from '../../runtime/index.ts'
import { placeKeyOf, type SyntheticPlace } from '../synthetic-addresses.ts'

/** The backends of one ServicePort that the userspace proxy carries. */
export interface UserspaceRoute {
  readonly id: ServicePortId
  readonly protocol: Protocol
  readonly place: SyntheticPlace
  /** Picked first, in balance. */
  readonly preferred: readonly Backend[]
  /** Tried when all preferred fail. */
  readonly others: readonly Backend[]
  /** Absent where nobody asks for anything. */
  readonly policy?: ResolvedPolicy | undefined
}

/** A ServicePort and its balancer, which outlives changes of backends and of the synthetic address. */
export interface BalancedRoute {
  readonly id: ServicePortId
  readonly protocol: Protocol
  readonly balancer: Balancer
  readonly policy: ResolvedPolicy
  /** Connections that are open now; kept by whoever carries them. */
  openConnections: number
}

/** A ServicePort of UDP, and where it is served. */
export interface DatagramRoute {
  readonly place: SyntheticPlace
  readonly route: BalancedRoute
}

/** Which ServicePort a connection is for, by the local address and port it arrived at. */
export interface RouteTable {
  readonly size: number
  /** The ServicePort of TCP at this place. */
  find(localAddress: string | undefined, localPort: number | undefined): BalancedRoute | undefined
  /** Those of UDP, by the names of their places; a new map after each `replace`. */
  datagramRoutes(): ReadonlyMap<string, DatagramRoute>
  /** Makes the table equal to these routes, keyed by `placeKeyOf`. */
  replace(routes: ReadableMap<UserspaceRoute>): void
}

/** Makes an empty table. */
export function createRouteTable(usual: ResolvedPolicy, surroundings: BalancerSurroundings): RouteTable {
  let last: ReadableMap<UserspaceRoute> = new Map()
  const byPlace = new Map<string, BalancedRoute>()
  const datagrams = new Map<string, DatagramRoute>()
  const byId = new Map<ServicePortId, Held>()

  const hold = (wanted: UserspaceRoute): BalancedRoute => {
    const { policy = usual } = wanted
    const known = byId.get(wanted.id)
    const route = known?.route ?? newRoute(wanted, policy, surroundings)
    if (known === undefined || !isSame(known.from, wanted)) update(route, wanted, policy)
    byId.set(wanted.id, { route, from: wanted, places: (known?.places ?? 0) + 1 })
    return route
  }
  const lead = (key: string, wanted: UserspaceRoute | undefined): void => {
    byPlace.delete(key)
    datagrams.delete(key)
    if (wanted === undefined) return
    const route = hold(wanted)
    byPlace.set(key, route)
    if (route.protocol === 'udp') datagrams.set(key, { place: wanted.place, route })
  }
  const letGo = ({ id }: UserspaceRoute): void => {
    const known = byId.get(id)
    if (known === undefined) return
    if (known.places === 1) byId.delete(id)
    else byId.set(id, { ...known, places: known.places - 1 })
  }

  return {
    get size() {
      return byPlace.size
    },
    find(localAddress, localPort) {
      if (localAddress === undefined || localPort === undefined) return undefined
      const route = byPlace.get(placeKeyOf({ address: withoutMappedPrefix(localAddress), port: localPort }))
      return route?.protocol === 'tcp' ? route : undefined
    },
    datagramRoutes: () => new Map(datagrams),
    replace(routes) {
      const differences = [...differencesOf(last, routes)]
      last = routes
      for (const { key, after } of differences) lead(key, after)
      // Only now, so that a ServicePort at a new address keeps its balancer.
      for (const { before } of differences) if (before !== undefined) letGo(before)
    },
  }
}

/** A route, and what it was made from. */
interface Held {
  readonly route: MutableRoute
  readonly from: UserspaceRoute
  /** How many places lead to it. */
  readonly places: number
}

type MutableRoute = { -readonly [K in keyof BalancedRoute]: BalancedRoute[K] }

function newRoute(
  { id, protocol }: UserspaceRoute,
  policy: ResolvedPolicy,
  surroundings: BalancerSurroundings,
): MutableRoute {
  return { id, protocol, policy, balancer: createBalancer(policy, surroundings), openConnections: 0 }
}

/** With thousands of ServicePorts most have nothing new to say. */
function isSame(one: UserspaceRoute, other: UserspaceRoute): boolean {
  return one.preferred === other.preferred && one.others === other.others && one.policy === other.policy
}

function update(route: MutableRoute, { preferred, others }: UserspaceRoute, policy: ResolvedPolicy): void {
  route.policy = policy
  route.balancer.setPolicy(policy)
  route.balancer.setBackends(preferred, others)
}

/** A listener on `::` reports IPv4 addresses as `::ffff:a.b.c.d`. */
function withoutMappedPrefix(address: string): string {
  return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address
}
