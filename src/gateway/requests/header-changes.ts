import type { HeaderOperations } from '../../model/index.ts'
import { HeaderFields } from '../http/header-fields.ts'

/** Applies the changes of a rule or destination: set, then add, then remove. */
export function changeHeaders(headers: HeaderFields, { set, add, remove }: HeaderOperations): void {
  for (const name in set) headers.set(name, name, set[name] ?? '')
  for (const name in add) headers.add(name, name, add[name] ?? '')
  for (const name of remove) headers.delete(name)
}

/** False when nothing would be changed. */
export function changesHeaders({ set, add, remove }: HeaderOperations): boolean {
  return remove.length > 0 || hasKeys(set) || hasKeys(add)
}

function hasKeys(object: Readonly<Record<string, string>>): boolean {
  for (const _name in object) return true
  return false
}

/** About one connection only (RFC 9110 7.6.1), or made anew for the next one. */
const hopByHop: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'transfer-encoding',
  'upgrade',
  'content-length',
])

/** Fields that frame or address a message: naming them in Connection must not make them disappear. */
const neverNamed: ReadonlySet<string> = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'authorization',
  'cookie',
])

/** The fields that go on to the next hop; those named in Connection do not. */
export function endToEndFields(headers: HeaderFields, isDropped: (lowerName: string) => boolean): HeaderFields {
  const named = namedInConnection(headers)
  const kept = new HeaderFields()
  const { names, lowerNames, values } = headers
  for (let at = 0; at < lowerNames.length; at++) {
    const lowerName = lowerNames[at] ?? ''
    if (hopByHop.has(lowerName) || named?.has(lowerName) === true || isDropped(lowerName)) continue
    kept.add(names[at] ?? '', lowerName, values[at] ?? '')
  }
  return kept
}

function namedInConnection(headers: HeaderFields): ReadonlySet<string> | undefined {
  const connection = headers.joined('connection')
  if (connection === undefined || connection === 'keep-alive' || connection === 'close') return undefined
  const names = connection.split(',').map((name) => name.trim().toLowerCase())
  return new Set(names.filter((name) => !neverNamed.has(name)))
}
