import { canonicalIpOf, type Field } from './field.ts'

const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/

/** A host name in lower case, `*.domain`, `*` or an IP address; `field` is where it was written. */
export function parseHostPattern(field: Field, text: string = field.text()): string {
  const pattern = text.toLowerCase().replace(/\.$/, '')
  if (pattern === '*') return pattern
  const address = canonicalIpOf(pattern)
  if (address !== undefined) return address
  const name = pattern.startsWith('*.') ? pattern.slice(2) : pattern
  if (name.length > 253 || !name.split('.').every((part) => label.test(part))) {
    throw field.error('must be a host name, *.domain or *')
  }
  return pattern
}
