import type { InterfaceAddress } from '../../linux/index.ts'
import { type Ipv4Network, ipv4ToNumber, isInIpv4Network } from '../../model/index.ts'

/** An address of a peer that may reach it without a relay. */
export interface DirectAddress {
  readonly multiaddress: string
  /** In a subnet of one of our interfaces: cheap to try, so it is tried before anybody asks. */
  readonly isOnLink: boolean
}

const privateNetworks: readonly Ipv4Network[] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
].map(([base, prefixLength]) => ({ base: ipv4ToNumber(String(base)) ?? 0, prefixLength: Number(prefixLength) }))

/**
 * Those of a peer's addresses that this node may try: in a subnet of ours, or public. Never one that is also our own,
 * which is common where LANs reuse private ranges: it would reach ourselves.
 */
export function directAddressesOf(
  addresses: readonly string[],
  interfaces: readonly InterfaceAddress[],
  ownAddresses: readonly string[],
): DirectAddress[] {
  return addresses
    .filter((multiaddress) => !ownAddresses.includes(multiaddress))
    .flatMap((multiaddress) => directAddressOf(multiaddress, interfaces))
    .sort((left, right) => Number(right.isOnLink) - Number(left.isOnLink))
}

function directAddressOf(multiaddress: string, interfaces: readonly InterfaceAddress[]): DirectAddress[] {
  const [, kind, host = '', port] = /^\/(ip4|dns)\/([^/]+)\/tcp\/(\d+)$/.exec(multiaddress) ?? []
  if (port === undefined) return []
  if (kind === 'dns') return [{ multiaddress, isOnLink: false }]
  if (ipv4ToNumber(host) === undefined) return []
  const isOnLink = interfaces.some((entry) => isInSubnetOf(host, entry))
  return isOnLink || isPublicAddress(host) ? [{ multiaddress, isOnLink }] : []
}

/** True when the host is in the subnet of this interface address. */
export function isInSubnetOf(host: string, { address, prefixLength }: InterfaceAddress): boolean {
  const own = ipv4ToNumber(address)
  // A host address has no neighbours.
  if (own === undefined || prefixLength >= 32) return false
  const size = 2 ** (32 - prefixLength)
  return isInIpv4Network(host, { base: own - (own % size), prefixLength })
}

/** True for an IPv4 address that is none of a private or special network. */
export function isPublicAddress(host: string): boolean {
  return !privateNetworks.some((network) => isInIpv4Network(host, network))
}
