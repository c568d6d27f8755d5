import type { InterfaceAddress, NeighbourRoute, NetworkView } from '../../linux/index.ts'
import {
  type ClusterNode,
  type Ipv4Network,
  ipv4ToNumber,
  isInIpv4Network,
  numberToIpv4,
  parseIpv4Network,
  sizeOfIpv4Network,
} from '../../model/index.ts'
import { networkOf } from '../kernel/network-facts.ts'

/** What decides about routes to the pods of LAN neighbours. */
export interface HostRouteFacts {
  readonly nodeName: string
  readonly nodes: ReadonlyMap<string, ClusterNode>
  /** Neighbours by name, and the addresses at which the tunnel has met them. */
  readonly neighbours: ReadonlyMap<string, string>
  readonly view: NetworkView
  readonly syntheticRange: string
  /** An address in the network that is surely no pod's, with what it is. */
  readonly addressIn: (network: Ipv4Network) => string | undefined
}

/** Routes to the pods of one neighbour. */
export interface ChosenRoutes {
  readonly node: string
  readonly gateway: string
  readonly routes: readonly NeighbourRoute[]
  /** Why there is no route to some of its pods, or none at all: the first reason. */
  readonly reason?: string
}

/** A network that is in use. */
interface TakenNetwork extends Ipv4Network {
  /** Whose pods are in it. */
  readonly node?: string
  readonly by: string
}

/** For each neighbour the routes to its pods that clash with nothing, by node name. */
export function chooseHostRoutes(facts: HostRouteFacts): readonly ChosenRoutes[] {
  const taken = takenNetworks(facts)
  return [...facts.neighbours]
    .filter(([node]) => node !== facts.nodeName)
    .sort(([left], [right]) => (left < right ? -1 : 1))
    .map(([node, gateway]) => ({ node, gateway, ...routesTo(node, gateway, facts, taken) }))
}

function routesTo(
  node: string,
  gateway: string,
  { nodes, view, addressIn }: HostRouteFacts,
  taken: readonly TakenNetwork[],
): Pick<ChosenRoutes, 'routes' | 'reason'> {
  const networks = (nodes.get(node)?.podCIDRs ?? []).filter((text) => parseIpv4Network(text) !== undefined)
  if (networks.length === 0) return { routes: [], reason: 'its Node names no IPv4 network of its pods (spec.podCIDR)' }
  if (view.defaultGateways.includes(gateway)) {
    return { routes: [], reason: `the tunnel meets it at ${gateway}, which is this node's router` }
  }
  const name = interfaceTo(gateway, view)
  if (name === undefined) return { routes: [], reason: `no interface of this node is in a network with ${gateway}` }
  const routes: NeighbourRoute[] = []
  let reason: string | undefined
  for (const network of networks) {
    const clash = clashOf(node, network, taken, addressIn)
    if (clash === undefined) routes.push({ network, gateway, interface: name })
    else reason ??= `${network} clashes with ${clash}`
  }
  return { routes, ...(reason !== undefined && { reason }) }
}

/** What a network of this node's pods would take the packets of; undefined when nothing. */
function clashOf(
  node: string,
  text: string,
  taken: readonly TakenNetwork[],
  addressIn: HostRouteFacts['addressIn'],
): string | undefined {
  const network = parseIpv4Network(text)
  if (network === undefined) return 'the notation of networks'
  const other = taken.find((entry) => entry.node !== node && overlap(entry, network))
  return other?.by ?? addressIn(network)
}

function takenNetworks({ nodeName, nodes, view, syntheticRange }: HostRouteFacts): readonly TakenNetwork[] {
  const named = (text: string, by: string) => ({ text, by })
  const routes = view.routes.filter(({ isOurs }) => isOurs !== true)
  const pods = [...nodes.values()].flatMap(({ name, podCIDRs }) => {
    const by = name === nodeName ? 'the pods of this node' : `the pods of ${name}`
    return podCIDRs.map((text) => ({ ...named(text, by), node: name }))
  })
  const all = [
    named(syntheticRange, `edgeProxy.syntheticRange, ${syntheticRange}`),
    ...view.interfaces.flatMap(({ name, addresses }) =>
      addresses.map((entry) => named(textOf(entry), `the network of ${name}, ${textOf(entry)}`)),
    ),
    ...pods,
    ...routes.map(({ network, interface: link }) =>
      named(network, `the route ${network}${link === undefined ? '' : ` dev ${link}`}`),
    ),
  ]
  return all.flatMap(({ text, ...rest }) => {
    const network = parseIpv4Network(text)
    return network === undefined ? [] : [{ ...rest, ...network }]
  })
}

function textOf(entry: InterfaceAddress): string {
  const network = networkOf(entry)
  return network === undefined ? '' : `${numberToIpv4(network.base)}/${network.prefixLength}`
}

/** Of several the one with the smallest network, as the kernel would choose. */
function interfaceTo(address: string, { interfaces }: NetworkView): string | undefined {
  const all = interfaces.filter(({ isUp, isLoopback }) => isUp && !isLoopback)
  const isOwn = all.some(({ addresses }) => addresses.some((entry) => entry.address === address))
  const leading = all.flatMap(({ name, addresses }) =>
    addresses.flatMap((entry) => {
      const network = networkOf(entry)
      return network !== undefined && isInIpv4Network(address, network) ? [{ name, ...network }] : []
    }),
  )
  return isOwn ? undefined : leading.sort((left, right) => right.prefixLength - left.prefixLength)[0]?.name
}

/** Two networks overlap when the smaller one begins in the larger one. */
function overlap(left: Ipv4Network, right: Ipv4Network): boolean {
  const [large, small] = left.prefixLength < right.prefixLength ? [left, right] : [right, left]
  return isInIpv4Network(numberToIpv4(small.base), large)
}

/** Finds addresses by network, without looking at all of them each time. */
export function createAddressFinder(named: Iterable<readonly [address: string, what: string]>) {
  const entries = [...named]
    .flatMap(([address, what]) => {
      const value = ipv4ToNumber(address)
      return value === undefined ? [] : [{ value, text: `${what} ${address}` }]
    })
    .sort((left, right) => left.value - right.value)
  return (network: Ipv4Network): string | undefined => {
    let from = 0
    for (let to = entries.length; from < to; ) {
      const middle = (from + to) >>> 1
      if ((entries[middle]?.value ?? 0) < network.base) from = middle + 1
      else to = middle
    }
    const found = entries[from]
    return found !== undefined && found.value < network.base + sizeOfIpv4Network(network) ? found.text : undefined
  }
}
