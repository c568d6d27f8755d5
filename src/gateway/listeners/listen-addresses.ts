import { ipv4ToNumber, isInIpv4Network, parseIpv4Network } from '../../model/index.ts'

/** One address of this node. */
export interface NodeAddress {
  readonly interface: string
  readonly address: string
}

/** Where a gateway listens: `nic`, `includeIP` and `excludeIP` of its configuration. */
export interface AddressFilter {
  readonly nic: string
  readonly includeIP: string
  readonly excludeIP: string
}

/** Every address, also those that come later. */
export const everyAddress = '0.0.0.0'

/** The addresses to listen on, sorted; without any filter one that stands for all. */
export function listenAddressesOf(filter: AddressFilter, addresses: readonly NodeAddress[]): readonly string[] {
  const { nic, includeIP, excludeIP } = filter
  // As in the Go system an asterisk excludes nothing.
  if (isAll(nic) && isAll(includeIP) && isAll(excludeIP)) return [everyAddress]
  const nics = new Set(listOf(nic))
  const chosen = addresses.filter((candidate) => {
    if (!isAll(nic) && !nics.has(candidate.interface)) return false
    if (!isAll(includeIP) && !holds(includeIP, candidate.address)) return false
    return isAll(excludeIP) || !holds(excludeIP, candidate.address)
  })
  return [...new Set(chosen.map(({ address }) => address))].sort()
}

function isAll(list: string): boolean {
  return list === '*' || list === ''
}

function holds(list: string, address: string): boolean {
  return listOf(list).some((item) => {
    const network = ipv4ToNumber(item) === undefined ? parseLooseNetwork(item) : undefined
    return network === undefined ? item === address : isInIpv4Network(address, network)
  })
}

/** A network may be written with any of its addresses. */
function parseLooseNetwork(text: string) {
  const [address = '', length = ''] = text.split('/')
  const value = ipv4ToNumber(address)
  const prefixLength = Number(length)
  if (value === undefined || length === '' || prefixLength > 32) return undefined
  const mask = prefixLength === 0 ? 0 : (0xffffffff << (32 - prefixLength)) >>> 0
  const base = [24, 16, 8, 0].map((shift) => (((value & mask) >>> 0) >>> shift) & 255).join('.')
  return parseIpv4Network(`${base}/${prefixLength}`)
}

function listOf(text: string): string[] {
  return text.split(',').map((item) => item.trim())
}
