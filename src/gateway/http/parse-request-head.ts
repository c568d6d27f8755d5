import {
  type BodyFraming,
  framingOf,
  isToken,
  listHas,
  MessageError,
  parseFields,
  type RequestHead,
  splitHead,
} from './head.ts'
import { HeaderFields } from './header-fields.ts'

const plainTarget = /^[\x21\x22\x24-\x7e]+$/
const authorityPattern = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]+)(:\d{0,5})?$/

/** What the lines below the first one say. */
interface KnownLines {
  readonly host: string
  readonly headers: HeaderFields
  readonly body: BodyFraming
  readonly wantsWebSocket: boolean
  readonly closes: boolean
}

/**
 * Parses the heads of one connection, strictly: what two readers could understand differently is refused. Most heads of
 * a connection differ in their first line only, and then the lines below it are not read again.
 */
export class RequestHeadParser {
  readonly #scheme: 'http' | 'https'
  #lines = ''
  #known: KnownLines | undefined

  constructor(scheme: 'http' | 'https') {
    this.#scheme = scheme
  }

  /** The head in latin1, without the empty line at its end. Throws `MessageError`. */
  parse(text: string): RequestHead {
    const end = text.indexOf('\r\n')
    const first = end === -1 ? text : text.slice(0, end)
    const [method = '', target = '', version = '', ...rest] = first.split(' ')
    if (rest.length > 0 || !isToken(method) || target === '')
      throw new MessageError(400, 'the request line is not METHOD TARGET HTTP/1.1')
    checkVersion(version)
    const { host, headers, body, closes, wantsWebSocket } = this.#read(end === -1 ? '' : text.slice(end + 2))
    const isUpgrade = body.kind === 'none' && method === 'GET' && wantsWebSocket
    const place = parseTarget(method, target, host)
    return { version: '1.1', method, scheme: this.#scheme, ...place, headers, body, isUpgrade, closes }
  }

  #read(lines: string): KnownLines {
    if (this.#known !== undefined && lines === this.#lines) return this.#known
    this.#known = readLines(lines)
    this.#lines = lines
    return this.#known
  }
}

function readLines(text: string): KnownLines {
  const headers = text === '' ? new HeaderFields() : parseFields(splitHead(text), 0)
  const hosts = headers.lowerNames.filter((name) => name === 'host').length
  if (hosts !== 1) throw new MessageError(400, hosts === 0 ? 'there is no Host field' : 'there are several Host fields')
  const host = headers.get('host') ?? ''
  headers.delete('host')
  if (!authorityPattern.test(host)) throw new MessageError(400, 'Host names no host')
  const body = framingOf(headers) ?? { kind: 'none' }
  checkExpectation(headers)
  const connection = headers.joined('connection')
  const wantsWebSocket = listHas(connection, 'upgrade') && headers.joined('upgrade')?.toLowerCase() === 'websocket'
  return { host, headers, body, wantsWebSocket, closes: listHas(connection, 'close') }
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
