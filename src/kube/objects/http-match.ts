import type { HttpMatch, NamedMatch, StringMatch } from '../../model/index.ts'
import type { Field } from './field.ts'
import { parsePlace, refuseSources } from './match-place.ts'
import type { Notes } from './notes.ts'

const matchKeys = [
  'name',
  'uri',
  'ignoreUriCase',
  'scheme',
  'method',
  'authority',
  'headers',
  'withoutHeaders',
  'queryParams',
  'port',
  'gateways',
  'sourceLabels',
  'sourceNamespace',
  'statPrefix',
]

/** One item of `match`. */
export function parseHttpMatch(field: Field, notes: Notes): HttpMatch {
  refuseSources(field)
  notes.checkKeys(field, matchKeys)
  notes.ignore(field.at('statPrefix'), 'has no effect; metrics are named by route')
  return {
    ...optional('uri', parseStringMatch(field.at('uri'))),
    ignoreUriCase: field.at('ignoreUriCase').flag(false),
    ...optional('scheme', parseStringMatch(field.at('scheme'))),
    ...optional('method', parseStringMatch(field.at('method'))),
    ...optional('authority', parseStringMatch(field.at('authority'))),
    headers: parseNamedMatches(field.at('headers'), (name) => name.toLowerCase()),
    withoutHeaders: parseNamedMatches(field.at('withoutHeaders'), (name) => name.toLowerCase()),
    queryParams: parseNamedMatches(field.at('queryParams'), (name) => name),
    ...parsePlace(field),
  }
}

/** `exact`, `prefix` or `regex`; undefined when there is none of them. */
export function parseStringMatch(field: Field): StringMatch | undefined {
  const kinds = ['exact', 'prefix', 'regex'] as const
  const present = kinds.filter((kind) => !field.at(kind).isAbsent)
  const [kind] = present
  if (present.length > 1) throw field.error('must have only one of exact, prefix and regex')
  const [unknown] = field.keys().filter((key) => !kinds.some((known) => known === key))
  // A kind of comparison that is not known here must not become "everything".
  if (unknown !== undefined) throw field.at(unknown).error('is no way to compare; use exact, prefix or regex')
  return kind === undefined ? undefined : { kind, value: field.at(kind).text() }
}

function parseNamedMatches(field: Field, nameOf: (key: string) => string): NamedMatch[] {
  return field.keys().map((key) => {
    return { name: nameOf(key), match: parseStringMatch(field.at(key)) ?? { kind: 'present' } }
  })
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return (value === undefined ? {} : { [key]: value }) as { [P in K]?: V }
}
