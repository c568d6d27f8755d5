import type { NetworkView } from '../../linux/index.ts'
import { type Ipv4Network, ipv4ToNumber, isInIpv4Network, parseIpv4Network } from '../../model/index.ts'
import { type NetworkFacts, networkOf } from '../kernel/network-facts.ts'

/** What of this node's network says where an address may lead. */
export interface RouteFacts {
  readonly own: ReadonlySet<string>
  /** Networks behind this node's own bridges and the like. */
  readonly inside: readonly Ipv4Network[]
  /** Longest first. */
  readonly routes: readonly (Ipv4Network & { readonly leadsSomewhere: boolean })[]
  /** This node's addresses among its pods': answers to its pods take the way of answers to these. */
  readonly podSources: readonly string[]
  /** Networks whose pods one of these addresses speaks for. */
  readonly spokenFor: readonly Ipv4Network[]
}

/** What is known of this node besides its network. */
export interface RouteFactOptions extends Pick<NetworkFacts, 'foreignInterfaces'> {
  readonly deviceName: string
  /** Networks of this node's pods, according to the cluster. */
  readonly podCIDRs: readonly string[]
}

/** Reads the facts out of a view of the network. */
export function routeFactsOf(
  { interfaces, routes }: NetworkView,
  { foreignInterfaces, deviceName, podCIDRs }: RouteFactOptions,
): RouteFacts {
  const links = interfaces.filter(({ name, isUp, isLoopback }) => isUp && !isLoopback && name !== deviceName)
  const inside = links
    .filter(({ name }) => !foreignInterfaces.includes(name))
    .flatMap(({ addresses }) => addresses)
    .filter(({ prefixLength }) => prefixLength < 31)
  const insideNetworks = inside.flatMap((entry) => networkOf(entry) ?? [])
  // Where pods hang on interfaces without a network, one address of the node's may stand for all of them.
  const ranges = podCIDRs.flatMap((text) => parseIpv4Network(text) ?? [])
  const standIns = links
    .flatMap(({ addresses }) => addresses.map(({ address }) => address))
    .filter((address) => ranges.some((range) => isInIpv4Network(address, range)))
  const podSources = [...new Set([...inside.map(({ address }) => address), ...standIns])].sort()
  return {
    own: new Set(interfaces.flatMap(({ addresses }) => addresses.map(({ address }) => address))),
    inside: insideNetworks,
    routes: routes
      .flatMap(({ network, leadsSomewhere }) => {
        const parsed = parseIpv4Network(network)
        return parsed === undefined ? [] : [{ ...parsed, leadsSomewhere }]
      })
      .sort((left, right) => right.prefixLength - left.prefixLength),
    podSources,
    spokenFor: [
      ...insideNetworks,
      ...ranges.filter((range) => podSources.some((address) => isInIpv4Network(address, range))),
    ],
  }
}

/**
 * Why an address cannot be another node's endpoint as seen from here; undefined when it may be, which proves nothing.
 * What leaves by the default route is not asked after: such questions would only fill somebody's log.
 */
export function reasonAgainstRoute(address: string, { own, inside, routes }: RouteFacts): string | undefined {
  if (ipv4ToNumber(address) === undefined) return `${address} is no IPv4 address`
  if (own.has(address)) return `${address} is an address of this node`
  if (inside.some((network) => isInIpv4Network(address, network))) return `pods of this node may have ${address}`
  const route = routes.find((network) => isInIpv4Network(address, network))
  return route?.leadsSomewhere === true ? undefined : `no route leads to ${address} but the default one`
}
