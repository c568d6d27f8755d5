import { ipv4ToNumber } from '../../model/index.ts'

/** A rule that concerns one address, with all its matches. */
export interface AddressRule {
  readonly address: string
  readonly rule: string
}

/** How a rule matches an address with a mask. */
export type AddressMatch = (masked: string) => string

/** A packet's destination. */
export const byDestination: AddressMatch = (masked) => `-d ${masked}`

/** What the client asked for, after translation. */
export const byOriginalDestination: AddressMatch = (masked) => `-m conntrack --ctorigdst ${masked}`

const bucketCount = 64

/**
 * A chain that finds the rules of an address. Rules are tried one after the other, so that many of them are divided by
 * the last six bits of their addresses: of 10,000 rules some 220 are tried instead.
 */
export function bucketedChains(
  name: string,
  rules: readonly AddressRule[],
  match: AddressMatch,
): Map<string, string[]> {
  if (rules.length <= bucketCount) return new Map([[name, rules.map(({ rule }) => rule)]])
  const buckets: string[][] = Array.from({ length: bucketCount }, () => [])
  for (const { address, rule } of rules) buckets[(ipv4ToNumber(address) ?? 0) % bucketCount]?.push(rule)
  const filled = [...buckets.entries()].filter(([, bucket]) => bucket.length > 0)
  return new Map([
    [name, filled.map(([bits]) => `${match(`0.0.0.${bits}/0.0.0.${bucketCount - 1}`)} -j ${name}-${bits}`)],
    ...filled.map(([bits, bucket]): [string, string[]] => [`${name}-${bits}`, bucket]),
  ])
}
