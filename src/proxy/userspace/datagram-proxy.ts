import { type DatagramDialer, type DatagramSocket, openDatagramSocket, type SocketAddress } from '../../net/index.ts'
import type { Logger } from '../../observability/index.ts'
import type { FailedDial } from '../l4/dial-first-reachable.ts'
import { DatagramSession } from './datagram-session.ts'
import type { BalancedRoute, DatagramRoute } from './route-table.ts'

/** What the proxy needs. */
export interface DatagramProxyOptions {
  readonly dialer: DatagramDialer
  readonly dialTimeoutMs: number
  /** A session without a datagram either way for this long is over. */
  readonly idleTimeoutMs: number
  /** Beyond this number the session that was quiet longest gives way. */
  readonly maxSessions: number
  readonly nowMs: () => number
  readonly logger: Logger
  readonly onFailure: (failure: FailedDial, route: BalancedRoute) => void
}

/** One UDP socket for each ServicePort, and a session for each of its clients. Disposal ends all. */
export interface DatagramProxy extends AsyncDisposable {
  readonly sessions: number
  /**
   * Makes the sockets equal to the routes, keyed by the names of their places; resolves when they are bound. A socket
   * that cannot be bound is told of once and tried again every few seconds. Sessions end whose backend has left.
   */
  setRoutes(routes: ReadonlyMap<string, DatagramRoute>): Promise<void>
}

interface Port {
  readonly route: BalancedRoute
  /** Absent until it is bound. */
  socket: DatagramSocket | undefined
  /** By the client's address and port. */
  readonly sessions: Map<string, Entry>
}

interface Entry {
  readonly session: DatagramSession
  readonly port: Port
  readonly key: string
  usedMs: number
}

/** Makes a proxy without sockets. */
export function createDatagramProxy(options: DatagramProxyOptions): DatagramProxy {
  return new RunningDatagramProxy(options)
}

class RunningDatagramProxy implements DatagramProxy {
  readonly #options: DatagramProxyOptions
  readonly #ports = new Map<string, Port>()
  /** All sessions; those that were quiet longest come first. */
  readonly #byUse = new Set<Entry>()
  readonly #sweep: NodeJS.Timeout
  #wanted: ReadonlyMap<string, DatagramRoute> = new Map()
  /** Names of wanted places without a socket. */
  readonly #unbound = new Set<string>()
  #changing: Promise<void> = Promise.resolve()

  constructor(options: DatagramProxyOptions) {
    this.#options = options
    this.#sweep = setInterval(() => this.#look(), Math.max(100, options.idleTimeoutMs / 4))
    this.#sweep.unref()
  }

  get sessions(): number {
    return this.#byUse.size
  }

  setRoutes(routes: ReadonlyMap<string, DatagramRoute>): Promise<void> {
    this.#wanted = routes
    const turn = this.#changing.then(() => this.#converge(routes))
    // What one change comes to is no matter of the next one.
    this.#changing = turn.catch(() => {})
    return turn
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#sweep)
    await this.setRoutes(new Map())
  }

  async #converge(routes: ReadonlyMap<string, DatagramRoute>): Promise<void> {
    const gone = [...this.#ports].filter(([key, { route }]) => routes.get(key)?.route.id !== route.id)
    await Promise.all(gone.map(([key, port]) => this.#close(key, port)))
    for (const key of this.#unbound) if (!routes.has(key)) this.#unbound.delete(key)
    for (const entry of this.#byUse) if (entry.session.isStranded) this.#drop(entry)
    const missing = [...routes].filter(([key]) => !this.#ports.has(key))
    await Promise.all(missing.map(([key, route]) => this.#open(key, route)))
  }

  async #close(key: string, port: Port): Promise<void> {
    this.#ports.delete(key)
    for (const entry of [...port.sessions.values()]) this.#drop(entry)
    await port.socket?.[Symbol.asyncDispose]()
  }

  async #open(key: string, { place, route }: DatagramRoute): Promise<void> {
    const { logger } = this.#options
    const opened: Port = { route, sessions: new Map(), socket: undefined }
    try {
      opened.socket = await openDatagramSocket({
        ...place,
        onMessage: (message, from) => this.#receive(opened, message, from),
        onError: (error) => logger.debug({ servicePort: route.id, error }, 'a UDP socket reported an error'),
      })
      this.#ports.set(key, opened)
      this.#unbound.delete(key)
    } catch (error) {
      const isKnown = this.#unbound.has(key)
      this.#unbound.add(key)
      if (isKnown) return
      logger.error({ servicePort: route.id, address: key, error }, 'cannot take datagrams for a ServicePort')
    }
  }

  #receive(port: Port, message: Buffer, from: SocketAddress): void {
    const key = `${from.address} ${from.port}`
    const entry = port.sessions.get(key) ?? this.#begin(port, key, from)
    this.#touch(entry)
    entry.session.send(message)
  }

  #begin(port: Port, key: string, client: SocketAddress): Entry {
    const { dialer, dialTimeoutMs, nowMs, maxSessions, onFailure } = this.#options
    const [quietest] = this.#byUse
    if (this.#byUse.size >= maxSessions && quietest !== undefined) this.#drop(quietest)
    const { route } = port
    const session = new DatagramSession({
      route,
      client,
      dialer,
      dialTimeoutMs,
      nowMs,
      onFailure: (failure) => onFailure(failure, route),
      onAnswer: (answer) => {
        this.#touch(entry)
        port.socket?.send(answer, client)
      },
      onEnd: () => this.#drop(entry),
    })
    const entry: Entry = { session, port, key, usedMs: nowMs() }
    port.sessions.set(key, entry)
    return entry
  }

  #touch(entry: Entry): void {
    entry.usedMs = this.#options.nowMs()
    this.#byUse.delete(entry)
    this.#byUse.add(entry)
  }

  #drop(entry: Entry): void {
    const { session, port, key } = entry
    this.#byUse.delete(entry)
    // A new session of the same client may be there already.
    if (port.sessions.get(key) === entry) port.sessions.delete(key)
    session[Symbol.dispose]()
  }

  #look(): void {
    this.#endIdle()
    if (this.#unbound.size > 0) void this.setRoutes(this.#wanted).catch(() => {})
  }

  #endIdle(): void {
    const { nowMs, idleTimeoutMs } = this.#options
    for (const entry of this.#byUse) {
      if (nowMs() - entry.usedMs < idleTimeoutMs) return
      this.#drop(entry)
    }
  }
}
