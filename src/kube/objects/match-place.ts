import type { Field } from './field.ts'
import { parsePortNumber } from './port.ts'

/** The port and gateways that a match is about. */
export function parsePlace(match: Field): { readonly port?: number; readonly gateways: readonly string[] } {
  const port = match.at('port')
  return {
    ...(port.isAbsent ? {} : { port: parsePortNumber(port) }),
    gateways: match
      .at('gateways')
      .items()
      .map((item) => item.text()),
  }
}

/** A gateway knows no labels of its clients: a match that asks for some must not hold for everybody instead. */
export function refuseSources(match: Field): void {
  for (const key of ['sourceLabels', 'sourceNamespace']) {
    refusePresent(match.at(key), 'cannot be told of clients outside the mesh, so this match never holds')
  }
}

/** Refuses the match for having the field. */
export function refusePresent(field: Field, problem: string): void {
  if (!field.isAbsent) throw field.error(problem)
}
