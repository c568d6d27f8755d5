/**
 * The names that both patterns allow, as one pattern; undefined when there is none. Patterns are lower-case names,
 * `*.domain` or `*`.
 */
export function intersectHosts(one: string, other: string): string | undefined {
  if (covers(one, other)) return other
  return covers(other, one) ? one : undefined
}

/** True when every name that the second pattern allows is allowed by the first. */
export function covers(wide: string, narrow: string): boolean {
  if (wide === '*' || wide === narrow) return true
  return wide.startsWith('*.') && narrow.endsWith(wide.slice(1)) && narrow.length >= wide.length
}

/** The host of a Host or :authority value: lower case, without port and final dot, IPv6 without brackets. */
export function hostOf(authority: string): string {
  const lower = authority.toLowerCase()
  if (lower.startsWith('[')) return lower.slice(1, Math.max(1, lower.indexOf(']')))
  const colon = lower.indexOf(':')
  const host = colon === -1 ? lower : lower.slice(0, colon)
  return host.endsWith('.') ? host.slice(0, -1) : host
}

/** Values by host pattern; the longest pattern that allows a name wins, a name itself before any wildcard. */
export class HostMap<V> {
  readonly #exact = new Map<string, V>()
  readonly #wildcards = new Map<string, V>()
  #any: V | undefined

  /** The value of exactly this pattern. */
  at(pattern: string): V | undefined {
    if (pattern === '*') return this.#any
    return pattern.startsWith('*.') ? this.#wildcards.get(pattern.slice(1)) : this.#exact.get(pattern)
  }

  set(pattern: string, value: V): void {
    if (pattern === '*') this.#any = value
    else if (pattern.startsWith('*.')) this.#wildcards.set(pattern.slice(1), value)
    else this.#exact.set(pattern, value)
  }

  /** The value for a name in lower case. */
  find(host: string): V | undefined {
    const exact = this.#exact.get(host)
    if (exact !== undefined) return exact
    if (this.#wildcards.size > 0) {
      for (let dot = host.indexOf('.'); dot !== -1; dot = host.indexOf('.', dot + 1)) {
        const found = this.#wildcards.get(host.slice(dot))
        if (found !== undefined) return found
      }
    }
    return this.#any
  }

  get size(): number {
    return this.#exact.size + this.#wildcards.size + (this.#any === undefined ? 0 : 1)
  }

  /** Every pattern with its value. */
  *entries(): IterableIterator<readonly [string, V]> {
    yield* this.#exact
    for (const [suffix, value] of this.#wildcards) yield [`*${suffix}`, value]
    if (this.#any !== undefined) yield ['*', this.#any]
  }
}
