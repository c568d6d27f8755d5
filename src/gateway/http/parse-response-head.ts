import {
  type BodyFraming,
  framingOf,
  listHas,
  MessageError,
  parseFields,
  type ResponseHead,
  splitHead,
} from './head.ts'
import type { HeaderFields } from './header-fields.ts'

const statusLine = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/

/** Parses the heads of the answers on one connection; one that is the same as the one before is not read again. */
export class ResponseHeadParser {
  #text = ''
  #method = ''
  #known: ResponseHead | undefined

  /** The head in latin1, without the empty line at its end, and the method it answers. Throws `MessageError`. */
  parse(text: string, method: string): ResponseHead {
    if (this.#known !== undefined && text === this.#text && method === this.#method) return this.#known
    this.#known = parseResponseHead(text, method)
    this.#text = text
    this.#method = method
    return this.#known
  }
}

function parseResponseHead(text: string, method: string): ResponseHead {
  const lines = splitHead(text)
  const match = statusLine.exec(lines[0] ?? '')
  if (match === null) throw new MessageError(502, 'the answer does not begin with a status line')
  const status = Number(match[2])
  const headers = parseFields(lines, 1)
  const body = responseFramingOf(headers, status, method)
  const connection = headers.joined('connection')
  const closes = body.kind === 'until-close' || listHas(connection, 'close')
  const isOld = match[1] === '0' && !listHas(connection, 'keep-alive')
  return { status, reason: match[3] ?? '', headers, body, closes: closes || isOld }
}

function responseFramingOf(headers: HeaderFields, status: number, method: string): BodyFraming {
  if (method === 'HEAD' || status < 200 || status === 204 || status === 304) return { kind: 'none' }
  return framingOf(headers) ?? { kind: 'until-close' }
}
