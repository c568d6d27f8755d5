import type { IncomingHttpHeaders } from 'node:http'
import type { BalancingPolicy, HashKey } from '../../model/index.ts'

/** The part of a request that decides about its backend. */
export interface KeyedRequest {
  readonly headers: IncomingHttpHeaders
  readonly url?: string | undefined
}

/** The key of a request, and the cookie to set when it was made for it. */
export interface RequestKey {
  readonly key?: string
  /** Value of a `Set-Cookie` field for the response. */
  readonly setCookie?: string
}

/** What of the request the policy hashes; no key when the policy looks at no request, or the request has none. */
export function requestKeyOf(policy: BalancingPolicy, request: KeyedRequest, newCookie: () => string): RequestKey {
  if (policy.kind !== 'consistent-hash') return {}
  const { key } = policy
  switch (key.kind) {
    case 'source-ip':
      return {}
    case 'http-header':
      return withKey(textOf(request.headers[key.name.toLowerCase()]))
    case 'query-parameter':
      return withKey(queryOf(request.url ?? '').get(key.name) ?? undefined)
    case 'http-cookie':
      return cookieKeyOf(key, request, newCookie)
    default:
      return key satisfies never
  }
}

function withKey(key: string | undefined): RequestKey {
  return key === undefined ? {} : { key }
}

function textOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value.join(', ') : value
}

function queryOf(url: string): URLSearchParams {
  const [beforeFragment = ''] = url.split('#', 1)
  const at = beforeFragment.indexOf('?')
  return new URLSearchParams(at === -1 ? '' : beforeFragment.slice(at + 1))
}

type CookieKey = Extract<HashKey, { readonly kind: 'http-cookie' }>

function cookieKeyOf(cookie: CookieKey, request: KeyedRequest, newCookie: () => string): RequestKey {
  const sent = cookieIn(textOf(request.headers.cookie) ?? '', cookie.name)
  if (sent !== undefined || cookie.ttlMs === undefined) return withKey(sent)
  const key = newCookie()
  const attributes = [
    `${cookie.name}=${key}`,
    ...(cookie.ttlMs > 0 ? [`Max-Age=${Math.ceil(cookie.ttlMs / 1_000)}`] : []),
    `Path=${cookie.path ?? '/'}`,
    'HttpOnly',
  ]
  return { key, setCookie: attributes.join('; ') }
}

function cookieIn(header: string, name: string): string | undefined {
  for (const pair of header.split(';')) {
    const at = pair.indexOf('=')
    if (at !== -1 && pair.slice(0, at).trim() === name) return pair.slice(at + 1).trim()
  }
  return undefined
}
