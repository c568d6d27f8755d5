import type { TcpSocket } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import type { ClientInfo, ExchangeHandler } from '../http/exchange.ts'
import type { MessageError } from '../http/head.ts'
import { type Http1Limits, Http1ServerConnection } from '../http/http1-server.ts'
import { Http2ServerConnection } from '../http/http2-server.ts'
import { createRequestHandler, type HandlerSurroundings, type RequestPlace } from '../requests/request-handler.ts'
import { chooseSniRule } from '../routing/choose-route.ts'
import { HostMap } from '../routing/host-pattern.ts'
import type { HttpHosts, ListenerPlan, TlsServerPlan } from '../routing/route-table.ts'
import { carryStream, type StreamEnd, type StreamRoute, type StreamSurroundings } from '../streams/carry-stream.ts'
import { type ClientHello, longestClientHello, parseClientHello } from '../tls/client-hello.ts'
import type { TlsTerminator } from '../tls/tls-terminator.ts'
import { readFirstBytes } from './first-bytes.ts'
import { type ProxiedClient, parseProxyHeader } from './proxy-protocol.ts'

/** What serving connections needs, for all listeners. */
export interface ConnectionSurroundings {
  readonly handler: HandlerSurroundings
  readonly streams: StreamSurroundings
  readonly terminator: TlsTerminator
  readonly limits: Http1Limits
  readonly proxyProtocol: boolean
  readonly onStreamDone: (client: ClientInfo, route: string, end: StreamEnd, durationMs: number) => void
  /** Is told why a connection or request never became one, in words without anything of the client's. */
  readonly onRefused: (reason: string) => void
}

/** Something that can be asked to end in order. */
export interface Drainable {
  drain(): void
}

const http2Preface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
/** How long a connection of which nothing came may last when no new ones are wanted. */
const silenceMs = 500
const noHosts: HttpHosts = new HostMap()
/** How long a client that is turned away may take to go. */
const lastWordMs = 1_000
const plainAnswer =
  'HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\nedgemesh gateway: this port speaks TLS; use https://\n'
/** A fatal alert `unrecognized_name`, as RFC 6066 3 wants it. */
const unrecognizedName = Buffer.from([21, 3, 3, 0, 2, 2, 112])

/** Serves one accepted connection by what its listener is for now. */
export class GatewayConnection implements Drainable {
  readonly #socket: TcpSocket
  readonly #plan: () => ListenerPlan
  readonly #surroundings: ConnectionSurroundings
  #served: Drainable | undefined
  #isDraining = false
  /** Nobody knows yet what the client wants. */
  #isSilent = true

  constructor(socket: TcpSocket, plan: () => ListenerPlan, surroundings: ConnectionSurroundings) {
    this.#socket = socket
    this.#plan = plan
    this.#surroundings = surroundings
  }

  /** Takes no further requests; a connection that carries bytes goes on until it is cut. */
  drain(): void {
    this.#isDraining = true
    this.#served?.drain()
    // A client that has only just connected is about to ask.
    setTimeout(() => this.#isSilent && this.#socket.destroy(), silenceMs).unref()
  }

  /** Resolves once the connection is in other hands. */
  async serve(): Promise<void> {
    const { proxyProtocol } = this.#surroundings
    const proxied = proxyProtocol ? await this.#readProxyHeader() : { client: undefined, rest: undefined }
    if (proxied === undefined) {
      this.#refuse('no valid PROXY protocol header')
      return
    }
    const client = this.#clientOf(proxied.client)
    const plan = this.#plan()
    this.#isSilent = plan.kind !== 'tcp'
    if (plan.kind === 'http') await this.#serveHttp(client, this.#placeOf(plan), proxied.rest)
    else if (plan.kind === 'tls') await this.#serveTls(client, proxied.rest)
    else await this.#serveTcp(client, plan.rules[0], proxied.rest)
  }

  async #readProxyHeader(): Promise<{ readonly client: ProxiedClient['client']; readonly rest: Buffer } | undefined> {
    const understand = (bytes: Buffer) => {
      const header = parseProxyHeader(bytes)
      return header === 'incomplete' ? undefined : header
    }
    const first = await readFirstBytes(this.#socket, understand, { ...this.#firstLimits(), maxBytes: 4096 })
    if (first === undefined || first.result === 'invalid') return undefined
    return { client: first.result.client, rest: first.bytes.subarray(first.result.length) }
  }

  async #serveHttp(client: ClientInfo, place: RequestPlace, already: Buffer | undefined): Promise<void> {
    const handler = createRequestHandler(place, this.#surroundings.handler)
    const understand = (bytes: Buffer) => {
      const length = Math.min(bytes.length, http2Preface.length)
      if (!bytes.subarray(0, length).equals(http2Preface.subarray(0, length))) return 'http1' as const
      return length === http2Preface.length ? ('http2' as const) : undefined
    }
    const limits = { ...this.#firstLimits(), maxBytes: 64, ...(already !== undefined && { already }) }
    const first = await readFirstBytes(this.#socket, understand, limits)
    this.#isSilent = false
    if (first === undefined) this.#socket.destroy()
    else if (first.result === 'http2') this.#serveHttp2(this.#socket, client, handler, first.bytes)
    else this.#serveHttp1(this.#socket, client, handler, first.bytes)
  }

  #serveHttp1(socket: TcpSocket, client: ClientInfo, onExchange: ExchangeHandler, bytes: Buffer): void {
    const { limits, onRefused } = this.#surroundings
    const onBad = (error: MessageError) => onRefused(error.message)
    const connection = new Http1ServerConnection(socket, { client, limits, onExchange, onRefused: onBad })
    this.#adopt(connection)
    connection.feed(bytes)
    socket.resume()
  }

  #serveHttp2(socket: TcpSocket, client: ClientInfo, onExchange: ExchangeHandler, bytes: Buffer): void {
    if (bytes.length > 0) socket.unshift(bytes)
    this.#adopt(new Http2ServerConnection(socket, { ...this.#surroundings.limits, client, onExchange }))
  }

  #adopt(served: Drainable): void {
    this.#served = served
    if (this.#isDraining) served.drain()
  }

  async #serveTls(client: ClientInfo, already: Buffer | undefined): Promise<void> {
    const understand = (bytes: Buffer) => {
      const hello = parseClientHello(bytes)
      return hello === 'incomplete' ? undefined : hello
    }
    const limits = { ...this.#firstLimits(), maxBytes: longestClientHello, ...(already !== undefined && { already }) }
    const first = await readFirstBytes(this.#socket, understand, limits)
    this.#isSilent = false
    if (first === undefined) {
      this.#refuse('no ClientHello in time')
      return
    }
    if (first.result === 'not-tls') {
      this.#turnAway('not TLS', plainAnswer)
      return
    }
    this.#socket.unshift(first.bytes)
    await this.#serveNamed(client, first.result)
  }

  async #serveNamed(client: ClientInfo, { serverName }: ClientHello): Promise<void> {
    const server = this.#tlsServerOf(serverName)
    if (server === undefined) {
      this.#turnAway('no Gateway serves the name that TLS asks for', unrecognizedName)
    } else if (server.mode === 'passthrough') await this.#serveTcp(client, chooseSniRule(server.rules, serverName))
    else await this.#terminate({ ...client, isTls: true, serverName }, serverName, server)
  }

  async #terminate(
    client: ClientInfo,
    serverName: string,
    server: TlsServerPlan & { mode: 'terminate' },
  ): Promise<void> {
    const alpn = server.inside.kind === 'http' ? ['h2', 'http/1.1'] : []
    try {
      const secured = await this.#surroundings.terminator.handshake(this.#socket, server.tls, alpn)
      if (server.inside.kind === 'tcp') await this.#carry(client, server.inside.rules[0], secured)
      else {
        const handler = createRequestHandler(this.#tlsPlaceOf(serverName), this.#surroundings.handler)
        if (secured.alpnProtocol === 'h2') this.#serveHttp2(secured, client, handler, Buffer.alloc(0))
        else this.#serveHttp1(secured, client, handler, Buffer.alloc(0))
      }
    } catch (error) {
      this.#refuse(`TLS: ${describeError(error)}`)
    }
  }

  async #serveTcp(client: ClientInfo, route: StreamRoute | undefined, already?: Buffer): Promise<void> {
    if (already !== undefined && already.length > 0) this.#socket.unshift(already)
    await this.#carry(client, route, this.#socket)
  }

  async #carry(client: ClientInfo, route: StreamRoute | undefined, socket: TcpSocket): Promise<void> {
    const { streams, onStreamDone } = this.#surroundings
    if (route === undefined) {
      this.#refuse('no rule of a VirtualService takes this connection')
      return
    }
    const startedAt = performance.now()
    const end = await carryStream(socket, client.address, route, streams)
    onStreamDone(client, route.id, end, performance.now() - startedAt)
  }

  #placeOf({ port }: ListenerPlan): RequestPlace {
    return {
      hosts: () => {
        const plan = this.#plan()
        return plan.kind === 'http' && plan.port === port ? plan.hosts : noHosts
      },
      isServedElsewhere: () => false,
    }
  }

  /** The rules of a certificate's server as they are now, while its connection lives on. */
  #tlsPlaceOf(serverName: string): RequestPlace {
    return {
      hosts: () => {
        const server = this.#tlsServerOf(serverName)
        return server?.mode === 'terminate' && server.inside.kind === 'http' ? server.inside.hosts : noHosts
      },
      isServedElsewhere: (host) => this.#tlsServerOf(host)?.mode === 'terminate',
    }
  }

  #tlsServerOf(serverName: string): TlsServerPlan | undefined {
    const plan = this.#plan()
    return plan.kind === 'tls' ? plan.servers.find(serverName) : undefined
  }

  #firstLimits() {
    return { timeoutMs: this.#surroundings.limits.headTimeoutMs, maxBytes: 4096 }
  }

  #clientOf(proxied: ProxiedClient['client']): ClientInfo {
    const { remoteAddress = '', remotePort = 0, localAddress = '', localPort = 0 } = this.#socket
    const address = proxied?.address ?? remoteAddress
    return {
      address: address.startsWith('::ffff:') ? address.slice(7) : address,
      port: proxied?.port ?? remotePort,
      localAddress,
      localPort,
      isTls: false,
    }
  }

  #refuse(reason: string): void {
    this.#surroundings.onRefused(reason)
    this.#socket.destroy()
  }

  /** The same with a last word; a client that stays after it is not waited for. */
  #turnAway(reason: string, lastWord: string | Uint8Array): void {
    this.#surroundings.onRefused(reason)
    // What still comes is not read, but its end must be seen, and it would turn the last word into a reset.
    this.#socket.resume().end(lastWord)
    const timer = setTimeout(() => this.#socket.destroy(), lastWordMs)
    this.#socket.once('close', () => clearTimeout(timer))
  }
}
