import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2'
import { HeaderFields } from './header-fields.ts'

/** What is about one HTTP/1.1 connection must not cross into HTTP/2 (RFC 9113 8.2.2). */
const connectionFields: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
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

/** Fields as node:http2 takes them. */
export function http2HeadersOf(fields: HeaderFields): OutgoingHttpHeaders {
  const headers: Record<string, string | string[]> = {}
  fields.forEach((_name, lowerName, value) => {
    if (connectionFields.has(lowerName) || (lowerName === 'te' && value !== 'trailers')) return
    const known = headers[lowerName]
    if (known === undefined) headers[lowerName] = value
    else headers[lowerName] = Array.isArray(known) ? [...known, value] : [known, value]
  })
  return headers
}
