import { HeaderFields } from './header-fields.ts'

const reasons: Readonly<Record<number, string>> = {
  200: 'OK',
  204: 'No Content',
  301: 'Moved Permanently',
  302: 'Found',
  303: 'See Other',
  307: 'Temporary Redirect',
  308: 'Permanent Redirect',
  400: 'Bad Request',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  413: 'Content Too Large',
  417: 'Expectation Failed',
  421: 'Misdirected Request',
  426: 'Upgrade Required',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
  505: 'HTTP Version Not Supported',
}

/** Why a client that sends nothing of its body any more is refused. */
export const slowBody = 'the body of the request did not arrive in time'

/** The usual reason phrase; empty for statuses that have none here, which is valid. */
export function reasonOf(status: number): string {
  return reasons[status] ?? ''
}

/** A whole answer to something that is no request, after which the connection ends. */
export function renderRefusal(status: number, message: string): string {
  const body = bodyOf(status, message)
  const headers = HeaderFields.of({
    'content-type': 'text/plain; charset=utf-8',
    'content-length': String(Buffer.byteLength(body)),
  })
  if (status === 426) headers.add('upgrade', 'upgrade', 'HTTP/1.1')
  const connection = status === 426 ? 'upgrade, close' : 'close'
  return `HTTP/1.1 ${status} ${reasonOf(status)}\r\n${headers.render()}connection: ${connection}\r\n\r\n${body}`
}

/** What people read when the gateway itself answers: who says it, and what is to be done. */
export function bodyOf(status: number, message: string): string {
  return `edgemesh gateway: ${status} ${reasonOf(status)}: ${message}\n`
}
