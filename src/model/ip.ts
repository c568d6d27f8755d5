/** An IPv4 network: base address as an unsigned 32-bit number, prefix length 0..32. */
export interface Ipv4Network {
  readonly base: number
  readonly prefixLength: number
}

/** The unsigned 32-bit value of dotted-quad text, or undefined when it is not exactly that. */
export function ipv4ToNumber(text: string): number | undefined {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text)
  if (match === null) return undefined
  let value = 0
  for (const part of match.slice(1)) {
    // Leading zeros are octal to some parsers, so an address written with them has no one meaning.
    if (Number(part) > 255 || (part.length > 1 && part.startsWith('0'))) return undefined
    value = value * 256 + Number(part)
  }
  return value
}

/** Dotted-quad text of an unsigned 32-bit number. */
export function numberToIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.')
}

/** Parses `a.b.c.d/n`; undefined when it is no IPv4 network or has bits set beyond its prefix. */
export function parseIpv4Network(text: string): Ipv4Network | undefined {
  const match = /^([\d.]+)\/(\d{1,2})$/.exec(text)
  const base = ipv4ToNumber(match?.[1] ?? '')
  const prefixLength = Number(match?.[2])
  if (base === undefined || prefixLength > 32) return undefined
  const network = { base, prefixLength }
  return networkBaseOf(base, prefixLength) === base ? network : undefined
}

/** True when the address (dotted quad) lies in the network; false for text that is no IPv4 address. */
export function isInIpv4Network(address: string, network: Ipv4Network): boolean {
  const value = ipv4ToNumber(address)
  return value !== undefined && holdsIpv4(network, value)
}

/** The same for an address as an unsigned 32-bit number. */
export function holdsIpv4(network: Ipv4Network, address: number): boolean {
  return networkBaseOf(address, network.prefixLength) === network.base
}

/** How many addresses the network holds. */
export function sizeOfIpv4Network(network: Ipv4Network): number {
  return 2 ** (32 - network.prefixLength)
}

function networkBaseOf(value: number, prefixLength: number): number {
  // A shift by 32 is a shift by 0 in JavaScript, so /0 needs its own answer.
  return prefixLength === 0 ? 0 : (value & (0xffffffff << (32 - prefixLength))) >>> 0
}
