import { HeaderFields } from './header-fields.ts'

/** How the end of a message's body is told. */
export type BodyFraming =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly length: number }
  | { readonly kind: 'chunked' }
  /** Only answers: the body ends with the connection. */
  | { readonly kind: 'until-close' }

/** A request as it came, whatever version of HTTP carried it. */
export interface RequestHead {
  readonly version: '1.1' | '2'
  readonly method: string
  readonly scheme: 'http' | 'https'
  /** Host or :authority. */
  readonly authority: string
  /** Path with query, or `*`. */
  readonly target: string
  /** Without Host and without pseudo-headers. */
  readonly headers: HeaderFields
  readonly body: BodyFraming
  /** The client wants to speak WebSocket on this connection. */
  readonly isUpgrade: boolean
  /** The client ends the connection after this request. */
  readonly closes: boolean
}

/** An answer as it came. */
export interface ResponseHead {
  readonly status: number
  readonly reason: string
  readonly headers: HeaderFields
  readonly body: BodyFraming
  /** The backend ends the connection after this answer. */
  readonly closes: boolean
}

/** A message that is not what HTTP says; the status is for the client. */
export class MessageError extends Error {
  override readonly name = 'MessageError'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** All that may stand in a head besides line ends: RFC 9110 5.5 with obs-text, which old clients send. */
const foreignByte = /[^\t\r\n\x20-\x7e\x80-\xff]/
/** A CR or LF alone ends a line for some parsers and not for others, and so hides requests. */
const loneLineEnd = /\r(?!\n)|(?<!\r)\n/
const mostFields = 256

/** The lines of a head in latin1, without the empty one at its end; throws `MessageError`. */
export function splitHead(text: string): string[] {
  if (foreignByte.test(text)) throw new MessageError(400, 'the head holds a control character')
  if (loneLineEnd.test(text)) throw new MessageError(400, 'a line of the head does not end in CR LF')
  return text.split('\r\n')
}

/** Parses header lines from the given one on; throws `MessageError`. */
export function parseFields(lines: readonly string[], first: number): HeaderFields {
  if (lines.length - first > mostFields) throw new MessageError(431, `more than ${mostFields} header fields`)
  const headers = new HeaderFields()
  for (let at = first; at < lines.length; at++) {
    const line = lines[at] ?? ''
    const colon = line.indexOf(':')
    const name = colon === -1 ? '' : line.slice(0, colon)
    headers.add(name, lowerNameOf(name), line.slice(colon + 1).trim())
  }
  return headers
}

/** Lower-case forms of the names seen so far; a name in here is known to be a token. */
const knownNames = new Map<string, string>()

function lowerNameOf(name: string): string {
  const known = knownNames.get(name)
  if (known !== undefined) return known
  // Also refuses a space before the colon and a line that continues the one before.
  if (!token.test(name)) throw new MessageError(400, 'a header line has no valid name')
  const lower = name.toLowerCase()
  if (knownNames.size < 2000 && name.length < 64) knownNames.set(name, lower)
  return lower
}

/**
 * How the body ends, by RFC 9112 6.3 without its leniency: one Content-Length of digits or one Transfer-Encoding that
 * is `chunked`, never both. Undefined when neither is there. Throws `MessageError`.
 */
export function framingOf(headers: HeaderFields): BodyFraming | undefined {
  return settleFraming(onlyValueOf(headers, 'content-length'), onlyValueOf(headers, 'transfer-encoding'))
}

function onlyValueOf(headers: HeaderFields, name: 'content-length' | 'transfer-encoding'): string | undefined {
  const at = headers.lowerNames.indexOf(name)
  if (at === -1) return undefined
  if (headers.lowerNames.includes(name, at + 1)) throw new MessageError(400, `there are several ${name} fields`)
  return headers.values[at]
}

function settleFraming(length: string | undefined, coding: string | undefined): BodyFraming | undefined {
  if (coding !== undefined) {
    if (length !== undefined) throw new MessageError(400, 'there are both Content-Length and Transfer-Encoding')
    if (coding.toLowerCase() !== 'chunked') throw new MessageError(501, 'Transfer-Encoding is not chunked')
    return { kind: 'chunked' }
  }
  if (length === undefined) return undefined
  if (!/^\d{1,15}$/.test(length)) throw new MessageError(400, 'Content-Length is no number')
  return { kind: 'length', length: Number(length) }
}

/** True when a comma-separated field holds the word. */
export function listHas(value: string | undefined, word: string): boolean {
  if (value === undefined) return false
  if (value.length === word.length) return value.toLowerCase() === word
  return value.split(',').some((item) => item.trim().toLowerCase() === word)
}

/** True for gRPC; gRPC-Web is ordinary HTTP. */
export function isGrpcRequest({ headers }: RequestHead): boolean {
  return /^application\/grpc(?:$|[+;])/.test(headers.get('content-type') ?? '')
}

/** True for text that may be a method or header name. */
export function isToken(text: string): boolean {
  return token.test(text)
}
