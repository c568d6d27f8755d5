import type { NamedAddress } from '../../linux/index.ts'
import { tcpMultiaddressOf } from '../host/server-address.ts'

/** Which interfaces peers are told of, from `modules.edgeTunnel`. */
export interface AnnounceRules {
  /** `*`, or interface names separated by commas. */
  readonly listenInterfaces: string
  /** More prefixes of names to leave out, separated by commas. */
  readonly extraFilteredInterfaces: string
}

/**
 * Interfaces of container networks: the same addresses exist behind them on many nodes, and no peer is there. `br-` with
 * twelve hexadecimal digits is a docker network; other bridges (br0, br-lan) are often the LAN itself.
 */
const containerInterfaces =
  /^(docker|edgemesh|tunl|flannel|cni|kube-ipvs|nodelocaldns|veth|cali|vxlan|virbr|lxc|br-[0-9a-f]{12}$)/

/** Most addresses a record may hold; configured ones come first. */
const maxAnnounced = 32

/** The addresses by which this node and its LAN neighbours know each other; a named interface is never left out. */
export function announcedAddressesOf(addresses: readonly NamedAddress[], rules: AnnounceRules): NamedAddress[] {
  const named = rules.listenInterfaces === '*' ? undefined : listOf(rules.listenInterfaces)
  const extra = listOf(rules.extraFilteredInterfaces)
  return addresses.filter(({ interface: name, address }) => {
    if (name === 'lo' || address.startsWith('169.254.')) return false
    if (named !== undefined) return named.includes(name)
    return !containerInterfaces.test(name) && !extra.some((prefix) => name.startsWith(prefix))
  })
}

/** The multiaddresses for our own record, at the port that listens; the same hosts give the same list. */
export function ownMultiaddressesOf(
  advertised: readonly string[],
  announced: readonly NamedAddress[],
  port: number,
): string[] {
  const ofInterfaces = announced.map(({ address }) => address).sort()
  const all = [...advertised, ...ofInterfaces].map((host) => tcpMultiaddressOf(host, port))
  return [...new Set(all)].slice(0, maxAnnounced)
}

function listOf(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}
