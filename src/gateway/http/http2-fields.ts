import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import { HeaderFields } from './header-fields.ts'

/** What is about one HTTP/1.1 connection must not cross into HTTP/2 (RFC 9113 8.2.2); node:http2 throws for each. */
const connectionFields: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'host',
])

/** The fields of an HTTP/2 message, without those that begin with a colon. */
export function fieldsOfHttp2(headers: IncomingHttpHeaders): HeaderFields {
  const fields = new HeaderFields()
  for (const [name, value] of Object.entries(headers)) {
    if (name.startsWith(':') || value === undefined) continue
    for (const single of Array.isArray(value) ? value : [value]) fields.add(name, name, single)
  }
  return fields
}

/** Fields as node:http2 takes them; it throws for several of a name that may be there once only, so they are joined. */
export function http2HeadersOf(fields: HeaderFields): OutgoingHttpHeaders {
  // Without a prototype, because clients may call a field `constructor`.
  const headers: Record<string, string | string[]> = Object.create(null)
  fields.forEach((_name, lowerName, value) => {
    if (connectionFields.has(lowerName) || (lowerName === 'te' && value !== 'trailers')) return
    headers[lowerName] = joined(lowerName, headers[lowerName], value)
  })
  return headers
}

/** RFC 9110 5.3 and 5.6.1, with the two fields that are no lists: RFC 6265 3 and RFC 9113 8.2.3. */
function joined(lowerName: string, known: string | string[] | undefined, value: string): string | string[] {
  if (known === undefined) return value
  if (lowerName === 'set-cookie') return [known, value].flat()
  // It says one word here, however often.
  if (lowerName === 'te') return known
  return `${known}${lowerName === 'cookie' ? ';' : ','} ${value}`
}
