import type { NamedAddress } from '../linux/index.ts'
import type { ClusterNode } from '../model/index.ts'

/**
 * Where a port of this node itself is dialled: the node's InternalIP, as a LAN neighbour would, else the bridge address.
 * Not loopback, which services choose so that nobody else reaches them. An InternalIP that is on no interface (the
 * snapshot may be older than the lease) could be another machine's by now.
 */
export function nodeAddressOf(
  node: ClusterNode | undefined,
  interfaces: readonly NamedAddress[],
  bridgeAddress: string,
): string {
  const own = new Set(interfaces.map(({ address }) => address))
  return node?.internalIPs.find((address) => !address.includes(':') && own.has(address)) ?? bridgeAddress
}
