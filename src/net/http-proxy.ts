import { type Ipv4Network, isInIpv4Network, parseIpv4Network } from '../model/index.ts'
import { connectTcp } from './connect-tcp.ts'
import { ignoreError } from './reset-stream.ts'
import type { TcpSocket } from './tcp-listener.ts'

/** An HTTP proxy that opens connections for us. */
export interface HttpProxy {
  readonly host: string
  readonly port: number
  /** `host:port`: names the proxy where people read, without its credentials. */
  readonly text: string
  /** The value of the header that shows our credentials; absent without any. */
  readonly authorization?: string
}

/** Text that is no proxy; the message does not repeat it, for it may hold a password. */
export class ProxyAddressError extends Error {
  override readonly name = 'ProxyAddressError'
  readonly code = 'EDGEMESH_PROXY_ADDRESS'
}

/** The proxy does not open the connection. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError'
  readonly code = 'EDGEMESH_PROXY'
  /** What a person can do about it. */
  readonly remedy: string

  constructor(message: string, remedy: string, options?: ErrorOptions) {
    super(message, options)
    this.remedy = remedy
  }
}

/** Where a connection through a proxy is to end. */
export interface ProxyTarget {
  readonly host: string
  readonly port: number
}

/** Environment variables. */
type Environment = Readonly<Record<string, string | undefined>>

const maxHeadBytes = 16 * 1024
const endOfHead = '\r\n\r\n'

/** Reads `http://[user:password@]host:port`; throws a `ProxyAddressError`. */
export function parseHttpProxy(text: string): HttpProxy {
  const url = URL.parse(text)
  const isBare = url !== null && url.pathname === '/' && url.search === '' && url.hash === ''
  if (!isBare || url.protocol !== 'http:' || url.hostname === '') {
    throw new ProxyAddressError('Cannot use the proxy: expected http://[user:password@]host:port')
  }
  const { hostname, port, username, password } = url
  const credentials = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`
  return {
    host: hostname.replace(/^\[|\]$/g, ''),
    port: port === '' ? 80 : Number(port),
    text: `${hostname}:${port === '' ? 80 : port}`,
    ...(username !== '' && { authorization: `Basic ${Buffer.from(credentials, 'utf8').toString('base64')}` }),
  }
}

/** The proxy that `HTTPS_PROXY` names, unless `NO_PROXY` excludes the target; undefined without one. */
export function environmentProxyOf(env: Environment, target: ProxyTarget): HttpProxy | undefined {
  const named = env['https_proxy'] || env['HTTPS_PROXY']
  if (named === undefined || named === '') return undefined
  const excluded = (env['no_proxy'] || env['NO_PROXY'] || '').split(',').map((entry) => entry.trim())
  if (excluded.some((entry) => excludes(entry.toLowerCase(), target))) return undefined
  return parseHttpProxy(named.includes('://') ? named : `http://${named}`)
}

/**
 * Connects through the proxy (RFC 9110 section 9.3.6); what the far end says first waits in the socket. Rejects with a
 * `ProxyError` that says who refused, or with the signal's reason.
 */
export async function connectThroughProxy(
  proxy: HttpProxy,
  target: ProxyTarget,
  signal: AbortSignal,
): Promise<TcpSocket> {
  const socket = await reach(proxy, signal)
  const onAbort = () => socket.destroy()
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    socket.write(requestOf(proxy, target))
    const head = await readHead(socket)
    if (/^HTTP\/1\.[01] 2\d\d\b/.test(head)) return socket
    throw refusalOf(head, proxy, target)
  } catch (error) {
    socket.destroy()
    if (signal.aborted) throw silenceOf(proxy, signal)
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

async function reach(proxy: HttpProxy, signal: AbortSignal): Promise<TcpSocket> {
  try {
    return await connectTcp(proxy.host, proxy.port, signal)
  } catch (error) {
    if (signal.aborted) throw silenceOf(proxy, signal)
    const reason = error instanceof Error ? error.message : String(error)
    throw new ProxyError(`cannot reach the proxy ${proxy.text}: ${reason}`, 'check edgeTunnel.proxy and the proxy', {
      cause: error,
    })
  }
}

/** Whoever gives up because the time is up is told what took so long. */
function silenceOf(proxy: HttpProxy, signal: AbortSignal): unknown {
  const isLate = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError'
  if (!isLate) return signal.reason
  const remedy = 'check edgeTunnel.proxy, and that the proxy reaches the server'
  return new ProxyError(`no answer from the proxy ${proxy.text}`, remedy, { cause: signal.reason })
}

function requestOf({ authorization }: HttpProxy, { host, port }: ProxyTarget): string {
  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`
  const credentials = authorization === undefined ? [] : [`Proxy-Authorization: ${authorization}`]
  return [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`, ...credentials].join('\r\n') + endOfHead
}

/** Takes the head of the answer out of the socket and leaves what follows in it. */
function readHead(socket: TcpSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    let held = Buffer.alloc(0)
    const settle = (outcome: () => void) => {
      socket.off('readable', onReadable)
      socket.off('close', onClose)
      // Not before the socket knows that nobody waits for `readable` any more, or it would not flow.
      setImmediate(outcome)
    }
    const fail = (message: string, remedy: string) => settle(() => reject(new ProxyError(message, remedy)))
    const onClose = () => fail('the proxy closed the connection', 'look into the log of the proxy')
    const onReadable = () => {
      held = Buffer.concat([held, takeAll(socket)])
      const end = held.indexOf(endOfHead)
      if (end >= 0) {
        putBack(socket, held.subarray(end + endOfHead.length))
        settle(() => resolve(held.toString('latin1', 0, end)))
      } else if (held.length >= maxHeadBytes) fail('what answers is no HTTP proxy', 'check edgeTunnel.proxy')
    }
    socket.on('error', ignoreError)
    socket.on('close', onClose)
    socket.on('readable', onReadable)
  })
}

function takeAll(socket: TcpSocket): Buffer {
  const bytes: unknown = socket.read()
  return Buffer.isBuffer(bytes) ? bytes : Buffer.alloc(0)
}

function putBack(socket: TcpSocket, bytes: Buffer): void {
  if (bytes.length > 0) socket.unshift(bytes)
}

function refusalOf(head: string, proxy: HttpProxy, { host, port }: ProxyTarget): ProxyError {
  const [statusLine = ''] = head.split('\r\n', 1)
  const [, status = '', phrase = ''] = /^HTTP\/1\.[01] (\d{3}) ?(.{0,60})/.exec(statusLine) ?? []
  if (status === '407') return wrongCredentials(head, proxy)
  const target = `${host}:${port}`
  if (status === '') return new ProxyError(`what answers at ${proxy.text} is no HTTP proxy`, 'check edgeTunnel.proxy')
  if (status.startsWith('5')) {
    const remedy = 'check that the server runs and that the proxy can reach it'
    return new ProxyError(`the proxy ${proxy.text} cannot reach ${target} (${status} ${phrase})`, remedy)
  }
  const remedy = 'let the proxy allow CONNECT to that port, or let the server listen on 443 too (edgeTunnel.morePorts)'
  return new ProxyError(`the proxy ${proxy.text} refuses to connect to ${target} (${status} ${phrase})`, remedy)
}

function wrongCredentials(head: string, { text, authorization }: HttpProxy): ProxyError {
  const schemes = [...head.matchAll(/^proxy-authenticate: *([a-z]+)/gim)].map(([, scheme = '']) => scheme)
  if (schemes.length > 0 && !schemes.some((scheme) => scheme.toLowerCase() === 'basic')) {
    const remedy = 'let the proxy admit this node by its address, or by Basic credentials'
    return new ProxyError(`the proxy ${text} asks for ${schemes.join(' or ')} credentials (407)`, remedy)
  }
  if (authorization !== undefined) {
    const remedy = 'correct them in edgeTunnel.proxy; write special characters as %XX'
    return new ProxyError(`the proxy ${text} does not accept our user and password (407)`, remedy)
  }
  return new ProxyError(
    `the proxy ${text} asks for a user and a password (407)`,
    'write them in edgeTunnel.proxy: http://USER:PASSWORD@HOST:PORT',
  )
}

/** An entry of `NO_PROXY`: a name and what is below it, an address, a network, or `*`; a port may follow. */
function excludes(entry: string, { host, port }: ProxyTarget): boolean {
  if (/:.*:/.test(entry)) return entry.replace(/^\[|\]$/g, '') === host
  const [, name = '', onlyPort] = /^(?:\*?\.)?([^:]*)(?::(\d+))?$/.exec(entry) ?? []
  if (name === '' || (onlyPort !== undefined && Number(onlyPort) !== port)) return false
  const network: Ipv4Network | undefined = name.includes('/') ? parseIpv4Network(name) : undefined
  if (network !== undefined) return isInIpv4Network(host, network)
  return name === '*' || host.toLowerCase() === name || host.toLowerCase().endsWith(`.${name}`)
}
