import type { IncomingHttpHeaders } from 'node:http2'
import type { BodyFraming, RequestHead } from './head.ts'
import { fieldsOfHttp2 } from './http2-fields.ts'

/** Undefined for a request that HTTP/1.1 would refuse as well; nghttp2 has checked the rest. */
export function http2RequestHead(
  headers: IncomingHttpHeaders,
  isTls: boolean,
  isComplete: boolean,
): RequestHead | undefined {
  const isUpgrade = asksForWebSocket(headers, isComplete)
  const method = isUpgrade ? 'GET' : headers[':method']
  const target = headers[':path']
  const authority = headers[':authority'] ?? headers.host
  if (method === undefined || target === undefined || authority === undefined || method === 'CONNECT') return undefined
  if (!isTarget(target, method) || !isAuthority(authority, headers.host)) return undefined
  const fields = fieldsOfHttp2(headers)
  const length = fields.get('content-length')
  fields.delete('content-length')
  fields.delete('host')
  return {
    version: '2',
    method,
    scheme: isTls ? 'https' : 'http',
    authority,
    target,
    headers: fields,
    body: isUpgrade ? { kind: 'none' } : framingOf(isComplete, length),
    isUpgrade,
    closes: false,
  }
}

/** WebSocket has a method of its own here (RFC 8441), and is a GET to rules and backends. */
function asksForWebSocket(headers: IncomingHttpHeaders, isComplete: boolean): boolean {
  return headers[':method'] === 'CONNECT' && headers[':protocol'] === 'websocket' && !isComplete
}

function isTarget(target: string, method: string): boolean {
  return target.startsWith('/') ? /^[\x21\x22\x24-\x7e]+$/.test(target) : target === '*' && method === 'OPTIONS'
}

function isAuthority(authority: string, host: string | undefined): boolean {
  if (!/^[^\s/\\@?#]+$/.test(authority)) return false
  return host === undefined || host.toLowerCase() === authority.toLowerCase()
}

function framingOf(isComplete: boolean, length: string | undefined): BodyFraming {
  if (isComplete) return { kind: 'none' }
  return length === undefined ? { kind: 'chunked' } : { kind: 'length', length: Number(length) }
}
