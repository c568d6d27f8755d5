import type { Client } from '../../loadbalancer/index.ts'
import { type Backend, backendIdOf } from '../../model/index.ts'
import { describeError } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { ConnectionPool } from '../backends/connection-pool.ts'
import type { BackendGroup } from '../backends/destinations.ts'
import type { UpstreamConnection } from '../http/upstream.ts'

/** What carrying requests needs. */
export interface ForwardSurroundings {
  readonly pool: ConnectionPool
  readonly random: () => number
  readonly dialTimeoutMs: number
}

/** A connection to a backend for one attempt. */
export interface Connected {
  readonly backend: Backend
  readonly connection: UpstreamConnection
  /** Ends the backend's count of this request. */
  readonly hold: Disposable
}

/** No backend could be reached. */
export interface ConnectFailure {
  readonly problem: string
}

/** A request that may not be repeated takes only connections that were in use a moment ago. */
const freshMs = 2_000
const anyAgeMs = 30_000
const mostProblems = 4

/** Finds a connection to one of the backends of a group, in the order that its balancer wants. */
export class BackendAttempts {
  readonly #group: BackendGroup
  readonly #client: Client
  readonly #surroundings: ForwardSurroundings
  #stopped: AbortController | undefined
  #isStopped = false
  #mayRestart = false
  #order: Iterator<Backend>
  #tries = 0
  /** Who was tried last. */
  backend: Backend | undefined

  constructor(group: BackendGroup, client: Client, surroundings: ForwardSurroundings) {
    this.#group = group
    this.#client = client
    this.#surroundings = surroundings
    this.#order = group.balancer.attempts(client)
  }

  /** How many backends were asked. */
  get tries(): number {
    return this.#tries
  }

  /** A connection that is open already, if the next backend has one; what is told is told at once. */
  takeIdle(isRepeatable: boolean): Connected | undefined {
    const backend = this.#next()
    if (backend === undefined) return undefined
    const { pool } = this.#surroundings
    const connection = pool.take(backend, this.#group.protocol, isRepeatable ? anyAgeMs : freshMs)
    return connection === undefined ? undefined : this.#connected(backend, connection)
  }

  /** A new connection: to the backend that `takeIdle` chose last, else to the next ones until one answers. */
  async dial(): Promise<Connected | ConnectFailure> {
    const problems: string[] = []
    for (let backend = this.backend ?? this.#next(); backend !== undefined; backend = this.#next()) {
      const dialled = await this.#dialOne(backend)
      if (!('problem' in dialled)) return dialled
      problems.push(dialled.problem)
      if (this.#isStopped) break
    }
    if (problems.length === 0) return { problem: `${this.#group.id} has no endpoint that is ready` }
    return { problem: problems.slice(-mostProblems).join('; ') }
  }

  /** The next attempt is for the next backend, and for the first one again when all were tried. */
  nextRound(): void {
    this.#mayRestart = true
  }

  /** The last backend answered. */
  succeeded(backend: Backend): void {
    this.#group.balancer.dialSucceeded(backend, this.#client)
  }

  /** The last backend failed in a way that counts against it. */
  failed(backend: Backend): void {
    this.#group.balancer.dialFailed(backend)
  }

  /** Gives up a dial under way. */
  stop(): void {
    this.#isStopped = true
    this.#stopped?.abort(new Error('the client went away'))
  }

  #next(): Backend | undefined {
    let step = this.#order.next()
    if (step.done === true && this.#mayRestart) {
      this.#order = this.#group.balancer.attempts(this.#client)
      step = this.#order.next()
    }
    this.#mayRestart = false
    this.backend = step.done === true ? undefined : step.value
    if (this.backend !== undefined) this.#tries += 1
    return this.backend
  }

  async #dialOne(backend: Backend): Promise<Connected | ConnectFailure> {
    const { pool, dialTimeoutMs } = this.#surroundings
    this.#stopped ??= new AbortController()
    using limit = new TimeLimit(this.#group.policy.connectTimeoutMs ?? dialTimeoutMs, this.#stopped.signal)
    try {
      return this.#connected(backend, await pool.dial(backend, this.#group.protocol, limit.signal))
    } catch (error) {
      if (!this.#isStopped) this.#group.balancer.dialFailed(backend)
      return { problem: `${backendIdOf(backend)}: ${limit.isOver ? 'no answer in time' : describeError(error)}` }
    }
  }

  #connected(backend: Backend, connection: UpstreamConnection): Connected {
    return { backend, connection, hold: this.#group.balancer.hold(backend) }
  }
}
