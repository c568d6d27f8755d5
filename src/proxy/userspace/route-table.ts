import {
  type Balancer,
  type BalancerSurroundings,
  createBalancer,
  type ResolvedPolicy,
} from '../../loadbalancer/index.ts'
import type { Backend, Protocol, ServicePortId } from '../../model/index.ts'

/** The backends of one ServicePort that the userspace proxy carries. */
export interface UserspaceRoute {
  readonly id: ServicePortId
  readonly protocol: Protocol
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

/** Which ServicePort a connection is for, by the local address it arrived at. */
export interface RouteTable {
  readonly size: number
  /** The ServicePort of TCP at this address. */
  find(localAddress: string | undefined): BalancedRoute | undefined
  /** Those of UDP, by synthetic address; a new map after each `replace`. */
  datagramRoutes(): ReadonlyMap<string, BalancedRoute>
  /** Makes the table equal to these routes, keyed by synthetic IPv4 address. */
  replace(routes: ReadonlyMap<string, UserspaceRoute>): void
}

/** Makes an empty table. */
export function createRouteTable(usual: ResolvedPolicy, surroundings: BalancerSurroundings): RouteTable {
  let byAddress = new Map<string, BalancedRoute>()
  let byId = new Map<ServicePortId, Held>()
  return {
    get size() {
      return byAddress.size
    },
    find(localAddress) {
      const route = localAddress === undefined ? undefined : byAddress.get(withoutMappedPrefix(localAddress))
      return route?.protocol === 'tcp' ? route : undefined
    },
    datagramRoutes: () => new Map([...byAddress].filter(([, { protocol }]) => protocol === 'udp')),
    replace(routes) {
      const before = byId
      byAddress = new Map()
      byId = new Map()
      for (const [address, wanted] of routes) {
        const { policy = usual } = wanted
        const known = byId.get(wanted.id) ?? before.get(wanted.id)
        const route = known?.route ?? newRoute(wanted, policy, surroundings)
        if (known === undefined || !isSame(known.from, wanted)) update(route, wanted, policy)
        byAddress.set(address, route)
        byId.set(wanted.id, { route, from: wanted })
      }
    },
  }
}

/** A route, and what it was made from. */
interface Held {
  readonly route: MutableRoute
  readonly from: UserspaceRoute
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
