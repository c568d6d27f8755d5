import type { Destination, WeightedDestination } from '../../model/index.ts'
import type { Field } from './field.ts'
import type { Notes } from './notes.ts'
import { parsePortNumber } from './port.ts'

/** `destination` of a route or mirror. */
export function parseDestination(field: Field, notes: Notes): Destination {
  notes.checkKeys(field, ['host', 'subset', 'port'])
  const host = field.at('host').text().toLowerCase()
  if (host === '') throw field.at('host').error('is missing; write the name of a Service')
  if (host.startsWith('*')) throw field.at('host').error('must be one Service')
  const subset = field.at('subset').text()
  const port = field.at('port', 'number')
  return {
    host: host.replace(/\.$/, ''),
    ...(subset === '' ? {} : { subset }),
    ...(port.isAbsent ? {} : { port: parsePortNumber(port) }),
  }
}

/** The weight of each destination; one without a weight has all of it when it is alone, and none otherwise. */
export function parseWeight(field: Field, count: number): number {
  return field.at('weight').integer(0, 2 ** 31 - 1) ?? (count === 1 ? 1 : 0)
}

/** Throws when all weights of several destinations are 0, because then nothing would ever be sent. */
export function requireWeight(route: Field, destinations: readonly WeightedDestination[]): void {
  if (destinations.length === 0) throw route.error('must have a destination')
  if (destinations.every(({ weight }) => weight === 0))
    throw route.error('must have a destination with a weight above 0')
}
