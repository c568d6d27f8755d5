import { framingOf, isToken, listHas, MessageError, parseFields, type RequestHead, splitHead } from './head.ts'
import type { HeaderFields } from './header-fields.ts'

const plainTarget = /^[\x21\x22\x24-\x7e]+$/
const authorityPattern = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:\d{0,5})?$/

/** Parses the head of an HTTP/1.1 request, strictly: what two readers could understand differently is refused. */
export function parseRequestHead(text: string, scheme: 'http' | 'https'): RequestHead {
  const lines = splitHead(text)
  const [method = '', target = '', version = '', ...rest] = (lines[0] ?? '').split(' ')
  if (rest.length > 0 || !isToken(method) || target === '')
    throw new MessageError(400, 'the request line is not METHOD TARGET HTTP/1.1')
  checkVersion(version)
  const headers = parseFields(lines, 1)
  const hosts = headers.lowerNames.filter((name) => name === 'host').length
  if (hosts !== 1) throw new MessageError(400, hosts === 0 ? 'there is no Host field' : 'there are several Host fields')
  const host = headers.get('host') ?? ''
  headers.delete('host')
  const place = parseTarget(method, target, host)
  const body = framingOf(headers) ?? { kind: 'none' }
  checkExpectation(headers)
  const connection = headers.joined('connection')
  return {
    version: '1.1',
    method,
    scheme,
    ...place,
    headers,
    body,
    isUpgrade: body.kind === 'none' && method === 'GET' && wantsWebSocket(headers, connection),
    closes: listHas(connection, 'close'),
  }
}

function checkVersion(version: string): void {
  if (version === 'HTTP/1.1') return
  if (version === 'HTTP/1.0') throw new MessageError(426, 'HTTP/1.0 is not spoken here; use HTTP/1.1 or HTTP/2')
  const isVersion = /^HTTP\/\d(\.\d)?$/.test(version)
  throw new MessageError(
    isVersion ? 505 : 400,
    isVersion ? `${version} is not spoken here` : 'the request line names no version of HTTP',
  )
}

function parseTarget(method: string, target: string, host: string): Pick<RequestHead, 'target' | 'authority'> {
  if (method === 'CONNECT') throw new MessageError(405, 'CONNECT is not served by a gateway')
  if (!plainTarget.test(target)) throw new MessageError(400, 'the target holds a character that must be escaped')
  if (!authorityPattern.test(host)) throw new MessageError(400, 'Host names no host')
  if (target.startsWith('/')) return { target, authority: host }
  if (target === '*' && method === 'OPTIONS') return { target, authority: host }
  const absolute = /^https?:\/\/([^/?]*)(\/[^?]*)?(\?.*)?$/i.exec(target)
  const [, authority = '', path = '/', query = ''] = absolute ?? []
  if (absolute === null || !authorityPattern.test(authority)) throw new MessageError(400, 'the target is no path')
  // RFC 9112 3.2.2 lets the target win; two different hosts in one request mislead somebody.
  if (authority.toLowerCase() !== host.toLowerCase())
    throw new MessageError(400, 'target and Host name different hosts')
  return { target: path + query, authority }
}

function checkExpectation(headers: HeaderFields): void {
  const expect = headers.joined('expect')
  if (expect !== undefined && expect.toLowerCase() !== '100-continue')
    throw new MessageError(417, 'Expect is not 100-continue')
}

function wantsWebSocket(headers: HeaderFields, connection: string | undefined): boolean {
  return listHas(connection, 'upgrade') && headers.joined('upgrade')?.toLowerCase() === 'websocket'
}
