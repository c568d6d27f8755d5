import type { Destination, ObjectKey, VirtualService } from '../model/index.ts'
import type { Destinations, OwnedDestination } from './backends/destinations.ts'
import type { ObjectProblem, RouteTable, TerminationPlan } from './routing/route-table.ts'
import { chooseCiphers } from './tls/cipher-suites.ts'
import type { TlsTerminator } from './tls/tls-terminator.ts'

/** Everything about the objects of a table that an operator should know, each thing once. */
export function objectProblems(
  table: RouteTable,
  terminator: Pick<TlsTerminator, 'problemOf'>,
  destinations: Pick<Destinations, 'problemOf'>,
): ObjectProblem[] {
  const certificates = terminationsOf(table).flatMap((termination) => certificateProblems(termination, terminator))
  const all = [...table.problems, ...certificates, ...destinationProblems(table, destinations)]
  return [...new Map(all.map((problem) => [`${problem.gateway} ${textOf(problem)}`, problem])).values()]
}

function certificateProblems(
  { gateway, plan, alpn }: Termination,
  terminator: Pick<TlsTerminator, 'problemOf'>,
): ObjectProblem[] {
  const { unknown } = chooseCiphers(plan.cipherSuites, false)
  const suites = unknown.map((suite) => ({
    kind: 'Gateway' as const,
    object: gateway,
    severity: 'notice' as const,
    message: `cipher suite ${suite} is not known here and left out`,
  }))
  const message = terminator.problemOf(plan, alpn)
  const about = { kind: 'Secret', object: plan.secret, gateway, severity: 'error' } as const
  return message === undefined ? suites : [...suites, { ...about, message }]
}

function destinationProblems(table: RouteTable, destinations: Pick<Destinations, 'problemOf'>): ObjectProblem[] {
  return [...table.virtualServices].flatMap((service) => {
    return destinationsOf(service).flatMap((destination): ObjectProblem[] => {
      const message = destinations.problemOf(destination, service.namespace)
      const object = `${service.namespace}/${service.name}`
      return message === undefined ? [] : [{ kind: 'VirtualService', object, severity: 'error', message }]
    })
  })
}

/** Every destination that some rule of a table names, with where it is looked up. */
export function ownedDestinationsOf({ virtualServices }: Pick<RouteTable, 'virtualServices'>): OwnedDestination[] {
  return [...virtualServices].flatMap((service) => {
    return destinationsOf(service).map((destination) => ({ destination, namespace: service.namespace }))
  })
}

function destinationsOf(service: VirtualService): Destination[] {
  const http = service.http.flatMap(({ action }) =>
    action.kind === 'forward' ? [...action.destinations, ...action.mirrors] : [],
  )
  return [...http, ...[...service.tls, ...service.tcp].flatMap((rule) => rule.destinations)]
}

/** One line about a problem, the same for the same problem. */
export function textOf({ kind, object, message }: ObjectProblem): string {
  return `${kind} ${object}: ${message}`
}

interface Termination {
  readonly gateway: ObjectKey
  readonly plan: TerminationPlan
  readonly alpn: readonly string[]
}

/** Every certificate that is asked for, with whose it is. */
export function terminationsOf({ listeners }: RouteTable): Termination[] {
  return listeners.flatMap((listener) => {
    if (listener.kind !== 'tls') return []
    return [...listener.servers.entries()].flatMap(([, server]) => {
      if (server.mode !== 'terminate') return []
      return [{ gateway: server.gateway, plan: server.tls, alpn: alpnOf(server.inside.kind) }]
    })
  })
}

/** Which protocols TLS clients may choose from. */
function alpnOf(inside: 'http' | 'tcp'): readonly string[] {
  return inside === 'http' ? ['h2', 'http/1.1'] : []
}
