import type { Backend } from '../../model/index.ts'
import type { DatagramChannel, DatagramDialer, SocketAddress } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { FailedDial } from '../l4/dial-first-reachable.ts'
import type { BalancedRoute } from './route-table.ts'

/** What a session needs. */
export interface DatagramSessionOptions {
  readonly route: BalancedRoute
  readonly client: SocketAddress
  readonly dialer: DatagramDialer
  readonly dialTimeoutMs: number
  readonly nowMs: () => number
  /** Takes what the backend sends. */
  readonly onAnswer: (message: Buffer) => void
  readonly onFailure: (failure: FailedDial) => void
  /** Called once, when the session is over. */
  readonly onEnd: () => void
}

const maxDialAttempts = 4
/** Datagrams that are sent again when the backend turns out not to listen, and for how long after the first one. */
const mostRepeated = 16
/** The longest datagram there is, for each of thousands of sessions. */
const mostRepeatedBytes = 65_536
const repeatWithinMs = 2_000

/**
 * One client's datagrams to one ServicePort, and the answers. It stays with its backend until it is disposed or the
 * backend refuses; when that happens before any answer, the next backend gets what was sent so far.
 */
export class DatagramSession implements Disposable {
  readonly #options: DatagramSessionOptions
  readonly #ending = new AbortController()
  readonly #startedMs: number
  #repeatable: Buffer[] = []
  #repeatableBytes = 0
  /** Who is dialled, or was. */
  #backend: Backend | undefined
  #isAnswered = false
  #channel: DatagramChannel | undefined

  constructor(options: DatagramSessionOptions) {
    this.#options = options
    this.#startedMs = options.nowMs()
    // Not before its owner knows it: it may be over at once.
    queueMicrotask(() => void this.#run())
  }

  send(message: Buffer): void {
    this.#remember(message)
    this.#channel?.send(message)
  }

  /** The backend is none of the ServicePort's any more: whoever sends without waiting for answers would never notice. */
  get isStranded(): boolean {
    return this.#backend !== undefined && !this.#options.route.balancer.has(this.#backend)
  }

  [Symbol.dispose](): void {
    this.#ending.abort(new Error('the session is over'))
    this.#channel?.[Symbol.dispose]()
  }

  async #run(): Promise<void> {
    const { route, client, onEnd } = this.#options
    let left = maxDialAttempts
    for (const backend of route.balancer.attempts({ address: client.address })) {
      this.#backend = backend
      const channel = await this.#dial(backend)
      const isOver = channel !== undefined && (await this.#carry(channel, backend))
      left -= 1
      if (isOver || left === 0 || this.#ending.signal.aborted) break
    }
    onEnd()
  }

  /** Undefined when it failed. */
  async #dial(backend: Backend): Promise<DatagramChannel | undefined> {
    const { dialer, dialTimeoutMs } = this.#options
    const { nodeName, address, port } = backend
    using limit = new TimeLimit(dialTimeoutMs, this.#ending.signal)
    try {
      return await dialer.dialDatagrams({ protocol: 'udp', nodeName, address, port }, limit.signal)
    } catch (error) {
      this.#failed({ backend, error })
      return undefined
    }
  }

  /** True when the session is over, false when another backend should be tried. */
  async #carry(channel: DatagramChannel, backend: Backend): Promise<boolean> {
    const { route, client, onAnswer } = this.#options
    using _held = route.balancer.hold(backend)
    channel.onMessage((message) => {
      if (this.#ending.signal.aborted) return
      // Only an answer proves anything: a datagram can be sent where nobody listens.
      if (!this.#isAnswered) route.balancer.dialSucceeded(backend, { address: client.address })
      this.#isAnswered = true
      this.#forget()
      onAnswer(message)
    })
    this.#channel = channel
    for (const message of this.#repeatable) channel.send(message)
    if (this.#ending.signal.aborted) channel[Symbol.dispose]()
    const error = await channel.closed
    this.#channel = undefined
    if (error === undefined) return true
    this.#failed({ backend, error })
    return this.#isAnswered
  }

  #failed(failure: FailedDial): void {
    if (this.#ending.signal.aborted) return
    this.#options.route.balancer.dialFailed(failure.backend)
    this.#options.onFailure(failure)
  }

  #remember(message: Buffer): void {
    if (this.#isAnswered) return
    // What is older than this nobody waits for any more.
    if (this.#options.nowMs() - this.#startedMs > repeatWithinMs) this.#forget()
    else if (this.#repeatable.length < mostRepeated && this.#repeatableBytes + message.length <= mostRepeatedBytes) {
      this.#repeatable.push(message)
      this.#repeatableBytes += message.length
    }
  }

  #forget(): void {
    this.#repeatable = []
    this.#repeatableBytes = 0
  }
}
