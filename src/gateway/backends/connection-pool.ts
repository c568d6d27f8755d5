import { type Backend, backendIdOf } from '../../model/index.ts'
import type { ByteStream, Dialer } from '../../net/index.ts'
import { Http1UpstreamConnection } from '../http/http1-upstream.ts'
import { Http2UpstreamConnection } from '../http/http2-upstream.ts'
import type { UpstreamConnection } from '../http/upstream.ts'
import { SharedDial } from './shared-dial.ts'

/** Which version of HTTP a backend speaks; nothing is asked of it to find out. */
export type UpstreamProtocol = 'http1' | 'http2'

/** What a pool does not decide itself. */
export interface ConnectionPoolOptions {
  readonly dialer: Dialer
  readonly nowMs: () => number
}

/** Idle connections are closed after this long, before most backends do so themselves. */
const idleMs = 30_000
const mostIdlePerBackend = 256
const sweepMs = 2_000
/** A backend's idle time counts from when it sent the answer, a little before that arrived here. */
const crossingMs = 1_000

/** Connections to backends, kept for the next request. Disposal closes all of them. */
export class ConnectionPool implements Disposable {
  readonly #options: ConnectionPoolOptions
  readonly #idle = new Map<string, Http1UpstreamConnection[]>()
  readonly #busy = new Set<Http1UpstreamConnection>()
  readonly #sessions = new Map<string, Http2UpstreamConnection>()
  readonly #dialingSessions = new Map<string, SharedDial<Http2UpstreamConnection>>()
  readonly #sweeper: NodeJS.Timeout
  #isDisposed = false

  constructor(options: ConnectionPoolOptions) {
    this.#options = options
    this.#sweeper = setInterval(() => this.#sweep(), sweepMs)
    this.#sweeper.unref()
  }

  /** How many connections are open. */
  get size(): number {
    let idle = 0
    for (const list of this.#idle.values()) idle += list.length
    return idle + this.#busy.size + this.#sessions.size
  }

  /** A connection that can take a request now and was idle for no longer than that; undefined when there is none. */
  take(backend: Backend, protocol: UpstreamProtocol, longestIdleMs: number): UpstreamConnection | undefined {
    const id = backendIdOf(backend)
    if (protocol === 'http2') return this.#usableSession(id)
    const list = this.#idle.get(id)
    const connection = list?.at(-1)
    // The last one in is the freshest: when it is too old all are.
    if (connection === undefined || this.#options.nowMs() - connection.idleSince > longestIdleMs) return undefined
    list?.pop()
    this.#busy.add(connection)
    return connection
  }

  /** A new connection, or for HTTP/2 the one that others are waiting for. Rejects as the dialer does. */
  async dial(backend: Backend, protocol: UpstreamProtocol, signal: AbortSignal): Promise<UpstreamConnection> {
    const id = backendIdOf(backend)
    return protocol === 'http2'
      ? await this.#dialSession(id, backend, signal)
      : await this.#dialHttp1(id, backend, signal)
  }

  /** Closes idle connections to backends that are no longer wanted; requests under way go on. */
  keepOnly(isWanted: (backendId: string) => boolean): void {
    for (const [id, list] of this.#idle) if (!isWanted(id)) for (const connection of list.slice()) connection.close()
    for (const [id, session] of this.#sessions) if (!isWanted(id)) session.drain()
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    clearInterval(this.#sweeper)
    for (const list of [...this.#idle.values()]) for (const connection of list.slice()) connection.close()
    for (const connection of [...this.#busy]) connection.close()
    for (const session of [...this.#sessions.values()]) session.close()
  }

  async #dialHttp1(id: string, backend: Backend, signal: AbortSignal): Promise<UpstreamConnection> {
    const stream = await this.#dialStream(backend, signal)
    const connection = new Http1UpstreamConnection(stream, {
      onIdle: (idle) => this.#keep(id, idle),
      onClosed: (closed) => this.#forget(id, closed),
    })
    this.#busy.add(connection)
    return connection
  }

  async #dialStream(backend: Backend, signal: AbortSignal): Promise<ByteStream> {
    const { nodeName, address, port } = backend
    const stream = await this.#options.dialer.dial({ protocol: 'tcp', nodeName, address, port }, signal)
    if (!this.#isDisposed) return stream
    stream.destroy()
    throw new Error('the gateway stops')
  }

  #keep(id: string, connection: Http1UpstreamConnection): void {
    this.#busy.delete(connection)
    const list = this.#idle.get(id) ?? []
    this.#idle.set(id, list)
    if (list.length >= mostIdlePerBackend) connection.close()
    else list.push(connection)
  }

  #forget(id: string, connection: Http1UpstreamConnection): void {
    this.#busy.delete(connection)
    const list = this.#idle.get(id)
    const at = list?.indexOf(connection) ?? -1
    if (at !== -1) list?.splice(at, 1)
    if (list?.length === 0) this.#idle.delete(id)
  }

  #usableSession(id: string): Http2UpstreamConnection | undefined {
    const session = this.#sessions.get(id)
    return session?.isUsable === true ? session : undefined
  }

  async #dialSession(id: string, backend: Backend, signal: AbortSignal): Promise<UpstreamConnection> {
    const known = this.#dialingSessions.get(id)
    const dial = known?.mayBeJoined === true ? known : this.#beginSession(id, backend)
    return await dial.wait(signal)
  }

  #beginSession(id: string, backend: Backend): SharedDial<Http2UpstreamConnection> {
    const dial = new SharedDial(async (signal) => {
      try {
        return this.#openSession(id, await this.#dialStream(backend, signal))
      } finally {
        if (this.#dialingSessions.get(id) === dial) this.#dialingSessions.delete(id)
      }
    })
    this.#dialingSessions.set(id, dial)
    return dial
  }

  #openSession(id: string, stream: ByteStream): Http2UpstreamConnection {
    const session = new Http2UpstreamConnection(stream, () => {
      if (this.#sessions.get(id) === session) this.#sessions.delete(id)
    })
    this.#sessions.get(id)?.drain()
    this.#sessions.set(id, session)
    return session
  }

  #sweep(): void {
    const now = this.#options.nowMs()
    for (const list of [...this.#idle.values()]) {
      for (const connection of list.slice()) {
        const limit = Math.min(idleMs, Math.max(0, connection.keepAliveMs - crossingMs))
        if (now - connection.idleSince > limit) connection.close()
      }
    }
  }
}
