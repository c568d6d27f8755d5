import {
  type Gateway,
  type GatewayServer,
  type HttpMatch,
  keyOf,
  type ObjectKey,
  type VirtualService,
} from '../../model/index.ts'
import { covers, intersectHosts } from './host-pattern.ts'
import { compileHttpMatch } from './http-matcher.ts'
import type { ObjectProblem } from './route-table.ts'
import { patternProblemOf } from './rule-patterns.ts'
import { PatternError } from './string-matcher.ts'

/** The VirtualServices of each Gateway, oldest first. */
export interface BoundServices {
  readonly byGateway: ReadonlyMap<ObjectKey, readonly VirtualService[]>
  readonly all: ReadonlySet<VirtualService>
  readonly problems: readonly ObjectProblem[]
}

/** Oldest first, so that a newcomer takes nothing from those who were there; by name where the age is equal. */
export function byAge(one: Named, other: Named): number {
  return compare(one.createdAt ?? '', other.createdAt ?? '') || compare(keyOf(one), keyOf(other))
}

type Named = Pick<VirtualService, 'namespace' | 'name' | 'createdAt'>

function compare(one: string, other: string): number {
  return one < other ? -1 : Number(one > other)
}

/**
 * Finds the VirtualServices of the given Gateways: those that name them, in their own namespace unless they say
 * `namespace/name`, and that the Gateway's namespace may see.
 */
export function bindVirtualServices(gateways: readonly Gateway[], services: Iterable<VirtualService>): BoundServices {
  const known = new Map(gateways.map((gateway) => [keyOf(gateway), gateway]))
  const byGateway = new Map<ObjectKey, VirtualService[]>()
  const all = new Set<VirtualService>()
  const problems: ObjectProblem[] = []
  for (const service of [...services].sort(byAge)) {
    for (const gateway of namedBy(service, known)) {
      problems.push(...bindingProblemsOf(service, gateway))
      if (!isExported(service, gateway)) continue
      const list = byGateway.get(keyOf(gateway)) ?? []
      list.push(service)
      byGateway.set(keyOf(gateway), list)
      all.add(service)
    }
  }
  return { byGateway, all, problems: [...problems, ...[...all].flatMap(wordsOf)] }
}

/** The Gateways that a VirtualService names, each once. */
function namedBy(service: VirtualService, known: ReadonlyMap<ObjectKey, Gateway>): ReadonlySet<Gateway> {
  const keys = service.gateways.flatMap((name) => gatewayKeyOf(name, service) ?? [])
  return new Set(keys.flatMap((key) => known.get(key) ?? []))
}

function bindingProblemsOf(service: VirtualService, gateway: Gateway): ObjectProblem[] {
  const name = `Gateway ${keyOf(gateway)}`
  if (!isExported(service, gateway)) {
    return [errorOf(service, `exportTo does not name ${gateway.namespace}, so ${name} leaves it out`)]
  }
  return reachesHosts(service, gateway) ? [] : [errorOf(service, `no host is one of ${name}`)]
}

/** The VirtualServices that a server's hosts may be about, oldest first. */
export function servicesOf({ byGateway }: BoundServices, gateway: Gateway, server: GatewayServer): VirtualService[] {
  return (byGateway.get(keyOf(gateway)) ?? []).filter((service) => commonHosts(service, gateway, server).length > 0)
}

/** The host patterns that a VirtualService and a server have in common, as far as its namespace may serve them. */
export function commonHosts(service: VirtualService, gateway: Gateway, { hosts }: GatewayServer): string[] {
  return hosts
    .filter(({ namespace }) => mayServe(namespace, gateway, service))
    .flatMap(({ host }) => service.hosts.flatMap((own) => intersectHosts(host, own) ?? []))
}

function mayServe(namespace: string, gateway: Gateway, service: VirtualService): boolean {
  return namespace === '*' || service.namespace === (namespace === '.' ? gateway.namespace : namespace)
}

/** The key of a Gateway as a VirtualService names it; undefined for `mesh`, which is all that is no gateway. */
export function gatewayKeyOf(name: string, service: VirtualService): ObjectKey | undefined {
  if (name === 'mesh') return undefined
  return name.includes('/') ? name.replace(/^\.\//, `${service.namespace}/`) : `${service.namespace}/${name}`
}

function isExported({ exportTo, namespace }: VirtualService, gateway: Gateway): boolean {
  if (exportTo.length === 0) return true
  return exportTo.some((to) => to === '*' || (to === '.' ? namespace : to) === gateway.namespace)
}

function reachesHosts(service: VirtualService, gateway: Gateway): boolean {
  return (
    gateway.servers.length === 0 || gateway.servers.some((server) => commonHosts(service, gateway, server).length > 0)
  )
}

function wordsOf(service: VirtualService): ObjectProblem[] {
  return [
    ...service.problems.map((message) => errorOf(service, message)),
    ...service.ignored.map((message) => ({ ...errorOf(service, message), severity: 'notice' as const })),
    ...patternProblemsOf(service),
    ...sniProblemsOf(service),
  ]
}

function sniProblemsOf(service: VirtualService): ObjectProblem[] {
  return service.tls.flatMap(({ match }, index) => {
    const names = match.flatMap(({ sniHosts }) => sniHosts)
    const foreign = names.filter((name) => !service.hosts.some((own) => covers(own, name)))
    return foreign.map((name) =>
      errorOf(service, `tls rule #${index}: ${name} counts only as far as spec.hosts has it`),
    )
  })
}

function patternProblemsOf(service: VirtualService): ObjectProblem[] {
  return service.http.flatMap((rule) => {
    const inRule = patternProblemOf(rule)
    const problems = [...(rule.match ?? []).flatMap(problemOfMatch), ...(inRule === undefined ? [] : [inRule])]
    return problems.map((problem) => errorOf(service, `rule ${rule.name}: ${problem}`))
  })
}

function problemOfMatch(match: HttpMatch): string[] {
  try {
    compileHttpMatch(match)
    return []
  } catch (error) {
    if (!(error instanceof PatternError)) throw error
    return [error.message]
  }
}

function errorOf(service: VirtualService, message: string): ObjectProblem {
  return { kind: 'VirtualService', object: keyOf(service), severity: 'error', message }
}
