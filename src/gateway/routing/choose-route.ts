import { covers, hostOf } from './host-pattern.ts'
import type { RoutableRequest } from './http-matcher.ts'
import type { HttpHosts, HttpRoute, SniRule, VirtualHost } from './route-table.ts'

/** What happens to a request. */
export type RouteChoice =
  | { readonly kind: 'route'; readonly route: HttpRoute; readonly matchedPrefix: string | undefined }
  | { readonly kind: 'redirect-to-https' }
  /** The host is not one of this port's Gateways. */
  | { readonly kind: 'unknown-host' }
  /** The host is, but no rule of its VirtualServices holds, or it has none. */
  | { readonly kind: 'no-rule'; readonly host: VirtualHost }

/** The first rule that holds, of those for the longest host pattern that allows the request's host. */
export function chooseRoute(hosts: HttpHosts, request: RoutableRequest): RouteChoice {
  const host = hosts.find(hostOf(request.authority))
  if (host === undefined) return { kind: 'unknown-host' }
  if (host.redirectsToHttps) return { kind: 'redirect-to-https' }
  for (const route of host.rules) {
    if (route.matchers === undefined) return { kind: 'route', route, matchedPrefix: '/' }
    for (const matcher of route.matchers) {
      if (matcher.holds(request)) return { kind: 'route', route, matchedPrefix: matcher.prefix }
    }
  }
  return { kind: 'no-rule', host }
}

/** The first rule for the name that a TLS client asks for; an empty name is allowed by `*` only. */
export function chooseSniRule(rules: readonly SniRule[], serverName: string): SniRule | undefined {
  return rules.find(({ sniHosts }) => sniHosts.some((pattern) => covers(pattern, serverName)))
}

/** One of several by weight; `draw` is 0..1, 1 excluded. Undefined when there is none with a weight. */
export function chooseByWeight<T extends { readonly weight: number }>(
  choices: readonly T[],
  draw: number,
): T | undefined {
  const [only] = choices
  if (choices.length === 1) return only
  const total = choices.reduce((sum, { weight }) => sum + weight, 0)
  let rest = draw * total
  for (const choice of choices) {
    rest -= choice.weight
    if (rest < 0) return choice
  }
  return undefined
}
