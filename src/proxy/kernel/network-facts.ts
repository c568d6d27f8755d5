import type { InterfaceAddress, NetworkInterface, NetworkView } from '../../linux/index.ts'
import { type Ipv4Network, ipv4ToNumber, numberToIpv4 } from '../../model/index.ts'

/** What the rules need to know about this node's network. */
export interface NetworkFacts {
  /** Interfaces that lead to other machines; packets from there are not our clients'. */
  readonly foreignInterfaces: readonly string[]
  /** Networks of bridges whose ports exchange frames unseen by nftables, as CIDR text. */
  readonly switchedNetworks: readonly string[]
  readonly hasDefaultRoute: boolean
  /** The node's own address, for packets to ClusterIPs that start here. */
  readonly nodeAddress: string | undefined
}

/** Besides the view: what only the caller knows. */
export interface FactOptions {
  readonly deviceName: string
  /** The node's addresses according to the cluster; empty when unknown. */
  readonly internalIPs: readonly string[]
  /** Whether all bridges pass frames through nftables. */
  readonly bridgeNetfilter: boolean
}

/**
 * An interface leads to other machines when a default route leaves by it, when it holds the node's own address, or
 * when it is no bridge and holds an address in a network of more than two. What is left are bridges of pods and
 * containers and the veth ends of point-to-point plugins, which hold no network.
 */
export function networkFactsOf(view: NetworkView, options: FactOptions): NetworkFacts {
  const candidates = view.interfaces.filter(({ name, isLoopback }) => !isLoopback && name !== options.deviceName)
  const isForeign = (entry: NetworkInterface) =>
    view.defaultRouteInterfaces.includes(entry.name) ||
    entry.addresses.some(({ address }) => options.internalIPs.includes(address)) ||
    (entry.kind !== 'bridge' && entry.addresses.some(({ prefixLength }) => prefixLength < 31))
  const foreign = candidates.filter(isForeign)
  return {
    foreignInterfaces: foreign.map(({ name }) => name).sort(),
    switchedNetworks: candidates
      .filter((entry) => isSwitching(entry, options))
      .flatMap(networksOf)
      .sort(),
    hasDefaultRoute: view.defaultRouteInterfaces.length > 0,
    nodeAddress: nodeAddressOf(foreign, options),
  }
}

const isSwitching = ({ kind, bridgeNetfilter }: NetworkInterface, options: FactOptions): boolean =>
  kind === 'bridge' && !bridgeNetfilter && !options.bridgeNetfilter

function networksOf({ addresses }: NetworkInterface): string[] {
  return addresses.flatMap((entry) => {
    const network = entry.prefixLength >= 31 ? undefined : networkOf(entry)
    return network === undefined ? [] : [`${numberToIpv4(network.base)}/${network.prefixLength}`]
  })
}

/** The network that an address of an interface lies in; undefined when it is no IPv4 address. */
export function networkOf({ address, prefixLength }: InterfaceAddress): Ipv4Network | undefined {
  const value = ipv4ToNumber(address)
  if (value === undefined) return undefined
  const size = 2 ** (32 - prefixLength)
  return { base: Math.floor(value / size) * size, prefixLength }
}

function nodeAddressOf(foreign: readonly NetworkInterface[], { internalIPs }: FactOptions): string | undefined {
  const own = foreign.filter(({ isUp }) => isUp).flatMap(({ addresses }) => addresses.map(({ address }) => address))
  return own.find((address) => internalIPs.includes(address)) ?? own[0]
}

/**
 * Few networks that hold all these addresses: for each first octet the smallest common one, but none smaller than /16,
 * so that they change seldom as Services come and go.
 */
export function coveringNetworks(addresses: Iterable<string>): string[] {
  const ranges = new Map<number, { lowest: number; highest: number }>()
  for (const address of addresses) {
    const value = ipv4ToNumber(address)
    if (value === undefined) continue
    const octet = Math.floor(value / 2 ** 24)
    const range = ranges.get(octet) ?? { lowest: value, highest: value }
    ranges.set(octet, { lowest: Math.min(range.lowest, value), highest: Math.max(range.highest, value) })
  }
  return [...ranges.values()]
    .sort((left, right) => left.lowest - right.lowest)
    .map(({ lowest, highest }) => {
      const prefixLength = Math.min(16, Math.clz32(lowest ^ highest))
      const size = 2 ** (32 - prefixLength)
      return `${numberToIpv4(Math.floor(lowest / size) * size)}/${prefixLength}`
    })
}
