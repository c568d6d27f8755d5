import type { HeaderChanges, Rewrite } from '../../model/index.ts'
import type { ClientInfo, Exchange } from '../http/exchange.ts'
import { listHas } from '../http/head.ts'
import type { HeaderFields } from '../http/header-fields.ts'
import type { OutgoingRequest } from '../http/upstream.ts'
import type { RequestPath } from '../routing/request-path.ts'
import { compilePattern } from '../routing/string-matcher.ts'
import { changeHeaders, changesHeaders, endToEndFields } from './header-changes.ts'

/** What clients may say about where a request came from. */
export interface ForwardingHabits {
  /** Keep what the client sent in X-Forwarded-* and Forwarded, because another proxy sent it. */
  readonly trustForwardedHeaders: boolean
  /** Also write Forwarded. */
  readonly forwardedHeader: boolean
}

/** How one request changes on its way. */
export interface OutgoingPlan {
  readonly target: RequestPath
  readonly matchedPrefix: string | undefined
  readonly rewrite: Rewrite | undefined
  /** Of the rule and of the destination. */
  readonly changes: readonly HeaderChanges[]
  readonly habits: ForwardingHabits
}

const forwardedFields: ReadonlySet<string> = new Set([
  'forwarded',
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-real-ip',
])
const keepsNothing = (lowerName: string) => forwardedFields.has(lowerName)
const dropsNothing = () => false

/** The request as a backend gets it. */
export function outgoingRequestOf(exchange: Exchange, plan: OutgoingPlan): OutgoingRequest {
  const { request } = exchange
  const { habits, rewrite, changes } = plan
  const { fields: headers, host } = changedFields(forwardedFieldsOf(exchange, habits), changes)
  return {
    method: request.method,
    authority: host ?? rewrite?.authority ?? request.authority,
    target: request.target === '*' ? '*' : rewritePath(plan) + plan.target.query,
    headers,
    body: request.body,
    isUpgrade: request.isUpgrade,
  }
}

/** Heads with the same fields on one connection go on with the same fields. */
function forwardedFieldsOf(exchange: Exchange, habits: ForwardingHabits): HeaderFields {
  const { headers: came } = exchange.request
  if (came.forwarded !== undefined) return came.forwarded
  const headers = endToEndFields(came, habits.trustForwardedHeaders ? dropsNothing : keepsNothing)
  // gRPC asks for trailers this way; of what TE may say it is all that concerns more than one connection.
  if (listHas(came.joined('te'), 'trailers')) headers.add('te', 'te', 'trailers')
  addForwarded(headers, exchange, habits)
  came.forwarded = headers
  return headers
}

/** A rule may also set the host, which is no field here. */
function changedFields(fields: HeaderFields, changes: readonly HeaderChanges[]) {
  if (!changes.some(({ request }) => changesHeaders(request))) return { fields, host: undefined }
  const headers = fields.copy()
  for (const { request } of changes) changeHeaders(headers, request)
  const host = headers.get('host')
  headers.delete('host')
  return { fields: headers, host }
}

function addForwarded(headers: HeaderFields, { request, client }: Exchange, habits: ForwardingHabits): void {
  const before = headers.joined('x-forwarded-for')
  headers.set(
    'x-forwarded-for',
    'x-forwarded-for',
    before === undefined ? client.address : `${before}, ${client.address}`,
  )
  setUnlessKept(headers, 'x-forwarded-proto', request.scheme)
  setUnlessKept(headers, 'x-forwarded-host', request.authority)
  setUnlessKept(headers, 'x-forwarded-port', String(client.localPort))
  if (habits.forwardedHeader)
    headers.add('forwarded', 'forwarded', forwardedOf(client, request.authority, request.scheme))
}

function setUnlessKept(headers: HeaderFields, name: string, value: string): void {
  if (!headers.has(name)) headers.add(name, name, value)
}

/** RFC 7239 4. */
function forwardedOf(client: ClientInfo, authority: string, scheme: string): string {
  const address = client.address.includes(':') ? `"[${client.address}]"` : client.address
  return `for=${address};host="${authority.replace(/["\\]/g, '')}";proto=${scheme}`
}

function rewritePath({ rewrite, target: { path }, matchedPrefix }: OutgoingPlan): string {
  if (rewrite?.uriRegex !== undefined) return rewriteByRegex(path, rewrite.uriRegex)
  if (rewrite?.uri === undefined) return path
  if (matchedPrefix === undefined) return rewrite.uri === '' ? '/' : rewrite.uri
  const rest = path.slice(matchedPrefix.length)
  // With prefix /a and uri /, /a/b would otherwise become //b, which nobody means.
  const joined = rewrite.uri.endsWith('/') && rest.startsWith('/') ? rewrite.uri + rest.slice(1) : rewrite.uri + rest
  return joined.startsWith('/') ? joined : `/${joined}`
}

function rewriteByRegex(path: string, { match, rewrite }: NonNullable<Rewrite['uriRegex']>): string {
  // RE2 names groups \1; the library names them $1.
  const replacement = rewrite.replaceAll('$', '$$$$').replace(/\\(\d)/g, '$$$1')
  const replaced = compilePattern(match).matcher(path).replaceAll(replacement)
  const isPath = replaced.startsWith('/') && /^[\x21\x22\x24-\x3e\x40-\x7e]+$/.test(replaced)
  return isPath ? replaced : path
}
