import { startTcpListener, type TcpListener, type TcpSocket } from '../../net/index.ts'
import { createLoggedTasks, describeError, type Logger } from '../../observability/index.ts'
import { aborted, type BackoffPolicy, backoffDelayMs, sleep, type TaskGroup } from '../../runtime/index.ts'
import type { ListenerPlan } from '../routing/route-table.ts'
import { type ConnectionSurroundings, type Drainable, GatewayConnection } from './connection.ts'

/** One address and port. */
export interface ListenerOptions {
  readonly address: string
  readonly port: number
  readonly surroundings: ConnectionSurroundings
  readonly maxConnections: number
  readonly logger: Logger
}

/** What a listener serves. */
export interface ListenerPlans {
  readonly usual: ListenerPlan
  /** By the address that a connection arrived at, where it is another one. */
  readonly own: ReadonlyMap<string, ListenerPlan>
}

/** How a listener fares, for status. */
export interface ListenerStatus {
  /** `0.0.0.0:80` */
  readonly address: string
  readonly kind: ListenerPlan['kind']
  readonly gateways: readonly string[]
  readonly connections: number
  /** Why it does not listen now; absent when it does. */
  readonly problem?: string
}

const retry: BackoffPolicy = { firstMs: 250, maxMs: 10_000, jitter: 0.2 }

/** Listens on one address and port, trying again while that is not possible; disposal cuts its connections. */
export class GatewayListener implements AsyncDisposable {
  readonly #options: ListenerOptions
  readonly #tasks: TaskGroup
  readonly #open = new Map<TcpSocket, Drainable>()
  #plans: ListenerPlans
  #listener: TcpListener | undefined
  #problem: string | undefined = 'starting'

  constructor(options: ListenerOptions, plans: ListenerPlans) {
    this.#options = options
    this.#plans = plans
    this.#tasks = createLoggedTasks(options.logger, 'a listener ended')
    this.#tasks.run('listener', (signal) => this.#keepListening(signal))
  }

  get status(): ListenerStatus {
    const { usual, own } = this.#plans
    const gateways = [...new Set([usual, ...own.values()].flatMap((plan) => plan.gateways))]
    const connections = this.#open.size
    return {
      address: this.#where,
      kind: usual.kind,
      gateways,
      connections,
      ...(this.#problem !== undefined && { problem: this.#problem }),
    }
  }

  /** What the next requests and connections are served by; those that stand are left alone. */
  setPlans(plans: ListenerPlans): void {
    this.#plans = plans
  }

  /** Takes no new connections, and ends those that are idle; resolves when none is left or the signal aborts. */
  async drain(signal: AbortSignal): Promise<void> {
    this.#listener?.stopAccepting()
    for (const connection of this.#open.values()) connection.drain()
    while (this.#open.size > 0 && !signal.aborted) await sleep(20, signal).catch(() => {})
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tasks[Symbol.asyncDispose]()
  }

  get #where(): string {
    const { address, port } = this.#options
    return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
  }

  async #keepListening(signal: AbortSignal): Promise<void> {
    const { logger } = this.#options
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        await this.#listen(signal)
      } catch (error) {
        const problem = describeError(error)
        if (problem !== this.#problem)
          logger.warn({ error, address: this.#where }, 'a listener cannot listen; trying again')
        this.#problem = problem
        await sleep(backoffDelayMs(retry, failures, Math.random), signal)
      }
    }
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const { address, port, logger } = this.#options
    await using listener = await startTcpListener({
      host: address,
      port,
      onConnection: (socket) => this.#accept(socket),
      onAcceptError: (error) => logger.warn({ error, address: this.#where }, 'a connection could not be accepted'),
      pauseOnConnect: true,
    })
    this.#listener = listener
    this.#problem = undefined
    logger.info({ address: this.#where }, 'listening')
    await aborted(signal)
  }

  #accept(socket: TcpSocket): void {
    const { maxConnections, surroundings, logger } = this.#options
    if (this.#open.size >= maxConnections) {
      surroundings.onRefused('too many connections')
      socket.destroy()
      return
    }
    const localAddress = socket.localAddress ?? ''
    const connection = new GatewayConnection(socket, () => this.#planFor(localAddress), surroundings)
    this.#open.set(socket, connection)
    socket.once('close', () => this.#open.delete(socket))
    connection.serve().catch((error: unknown) => {
      logger.error({ error }, 'a connection could not be served')
      socket.destroy()
    })
  }

  #planFor(localAddress: string): ListenerPlan {
    const { usual, own } = this.#plans
    return own.get(localAddress) ?? usual
  }
}
