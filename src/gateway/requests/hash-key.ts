import { randomBytes } from 'node:crypto'
import type { Client, ResolvedPolicy } from '../../loadbalancer/index.ts'
import type { Exchange } from '../http/exchange.ts'
import { parseQuery } from '../routing/request-path.ts'

/** Who asks, as a balancer wants to know, and the cookie to set so that the next request goes the same way. */
export interface BalancedClient {
  readonly client: Client
  readonly setCookie?: string
}

/** What a policy looks at in a request. */
export function balancedClientOf(exchange: Exchange, { balancing }: ResolvedPolicy): BalancedClient {
  const { request, client } = exchange
  const { address } = client
  if (balancing.kind !== 'consistent-hash') return { client: { address } }
  const { key } = balancing
  switch (key.kind) {
    case 'source-ip':
      return { client: { address } }
    case 'http-header':
      return { client: { address, key: request.headers.joined(key.name.toLowerCase()) } }
    case 'query-parameter': {
      const mark = request.target.indexOf('?')
      const query = mark === -1 ? '' : request.target.slice(mark)
      return { client: { address, key: parseQuery(query).get(key.name) } }
    }
    case 'http-cookie': {
      const known = cookieOf(request.headers.joined('cookie'), key.name)
      if (known !== undefined || key.ttlMs === undefined) return { client: { address, key: known } }
      const value = randomBytes(12).toString('base64url')
      const path = key.path === undefined ? '' : `; Path=${key.path}`
      const age = key.ttlMs === 0 ? '' : `; Max-Age=${Math.ceil(key.ttlMs / 1000)}`
      return { client: { address, key: value }, setCookie: `${key.name}=${value}${path}${age}; HttpOnly` }
    }
    default:
      return key satisfies never
  }
}

function cookieOf(header: string | undefined, name: string): string | undefined {
  for (const part of header?.split(/[;,]\s*/) ?? []) {
    const equals = part.indexOf('=')
    if (equals !== -1 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim()
  }
  return undefined
}
