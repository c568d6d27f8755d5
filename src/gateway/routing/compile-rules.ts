import { type Gateway, type GatewayServer, type HttpMatch, keyOf, type VirtualService } from '../../model/index.ts'
import { commonHosts, gatewayKeyOf } from './bind.ts'
import { intersectHosts } from './host-pattern.ts'
import { compileHttpMatch, type HttpMatcher } from './http-matcher.ts'
import type { HttpRoute, SniRule, StreamRule } from './route-table.ts'
import { followable } from './rule-patterns.ts'
import { PatternError } from './string-matcher.ts'

/** Where rules are asked. */
export interface Place {
  readonly gateway: Gateway
  readonly port: number
}

/** The http rules of an object that can ever hold at a place, in their order. */
export function compileHttpRoutes(service: VirtualService, place: Place): HttpRoute[] {
  return service.http.flatMap((written): HttpRoute[] => {
    const rule = followable(written)
    const id = `${keyOf(service)}/${rule.name}`
    if (rule.match === undefined) return [{ id, virtualService: service, rule, matchers: undefined }]
    const matchers = rule.match.filter((match) => isAt(match, service, place)).flatMap(matcherOf)
    return matchers.length === 0 ? [] : [{ id, virtualService: service, rule, matchers }]
  })
}

/** The tcp rules of objects that hold at a place, in their order. */
export function compileStreamRules(services: readonly VirtualService[], place: Place): StreamRule[] {
  return services.flatMap((service) => {
    return service.tcp.flatMap((rule, index) => {
      const holds = rule.match === undefined || rule.match.some((match) => isAt(match, service, place))
      return holds ? [{ id: `${keyOf(service)}/tcp#${index}`, virtualService: service, rule }] : []
    })
  })
}

/** The tls rules of objects that can hold at a server, in their order; for names that the object is about as a whole. */
export function compileSniRules(
  services: readonly VirtualService[],
  gateway: Gateway,
  server: GatewayServer,
): SniRule[] {
  const place = { gateway, port: server.port }
  return services.flatMap((service) => {
    const hosts = commonHosts(service, gateway, server)
    return service.tls.flatMap((rule, index) => {
      const named = rule.match.filter((match) => isAt(match, service, place)).flatMap((match) => match.sniHosts)
      const sniHosts = named.flatMap((name) => hosts.flatMap((host) => intersectHosts(host, name) ?? []))
      return sniHosts.length === 0
        ? []
        : [{ id: `${keyOf(service)}/tls#${index}`, virtualService: service, rule, sniHosts }]
    })
  })
}

function isAt(match: Pick<HttpMatch, 'port' | 'gateways'>, service: VirtualService, { gateway, port }: Place): boolean {
  if (match.port !== undefined && match.port !== port) return false
  return match.gateways.length === 0 || match.gateways.some((name) => gatewayKeyOf(name, service) === keyOf(gateway))
}

/** A match with a bad regex never holds; `bindVirtualServices` tells of it. */
function matcherOf(match: HttpMatch): HttpMatcher[] {
  try {
    return [compileHttpMatch(match)]
  } catch (error) {
    if (!(error instanceof PatternError)) throw error
    return []
  }
}
