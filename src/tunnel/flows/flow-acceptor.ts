import {
  type ByteStream,
  type DatagramDialer,
  DialError,
  type Dialer,
  type DialTarget,
  exchangeDatagrams,
  resetStream,
  splice,
} from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics, Seldom } from '../../observability/index.ts'
import { type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import { countDatagrams } from './counted-datagrams.ts'
import type { CountedFlow, FlowCounter } from './flow-limits.ts'
import type { IncomingFlow } from './incoming-flow.ts'
import { type OpenMessages, type OpenRequest, openMessages, targetTextOf } from './open-message.ts'
import { incomingFlowOf } from './stream-carrier.ts'
import type { Refusal } from './target-check.ts'

/** Who opened a flow, proven by the connection's handshake. */
export interface FlowPeer {
  readonly peerId: string
  readonly path: string
}

/** An answer that is nearly always there at once. */
type Eventual<T> = T | undefined | Promise<T | undefined>

/** What the far side of flows needs. */
export interface FlowAcceptorOptions {
  readonly nodeName: string
  readonly tasks: TaskGroup
  readonly open: FlowCounter
  readonly localDialer: Dialer
  readonly localDatagrams: DatagramDialer
  /** Where the ports of this node itself are dialled. */
  readonly nodeAddress: () => string
  checkTarget(request: OpenRequest, signal: AbortSignal): Eventual<Refusal>
  /** The name the peer is known by; may wait a moment for its record. */
  nameOf(peerId: string, signal: AbortSignal): Eventual<string>
  readonly isStopping: () => boolean
  readonly dialTimeoutMs: number
  readonly handshakeTimeoutMs: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** Carries what a flow brings, until it is over. */
type Carry = (stopping: AbortSignal) => Promise<unknown>

function placeOf(request: OpenRequest, nodeName: string): string {
  return `${targetTextOf(request)} on ${nodeName}`
}

/** One line per peer and reason in this time; a peer that scans us must not fill the log. */
const quietMs = 10_000

/** Serves flows that peers open: checks the target, dials it on this node, answers, and copies bytes until both ends close. */
export class FlowAcceptor {
  readonly #options: FlowAcceptorOptions
  readonly #refused: Counter
  readonly #accepted: Counter
  readonly #seldom = new Seldom(quietMs)

  constructor(options: FlowAcceptorOptions) {
    this.#options = options
    const { metrics } = options
    this.#refused = metrics.counter('tunnel_refused_targets_total', 'Targets not dialled for peers', ['reason'])
    this.#accepted = metrics.counter('tunnel_accepted_flows_total', 'Flows served for peers')
  }

  /** Takes ownership of a stream that a peer opened, and on which it says what it wants by these messages. */
  acceptStream(stream: ByteStream, peer: FlowPeer, messages: OpenMessages = openMessages): void {
    this.#run(
      peer,
      (error) => resetStream(stream, error),
      async (stopping, place) => {
        using limit = new TimeLimit(this.#options.handshakeTimeoutMs, stopping)
        const flow = await incomingFlowOf(stream, messages, limit.signal)
        if (flow !== undefined) await this.#serve(flow, peer, place, stopping)
      },
    )
  }

  /** Takes ownership of a flow that a peer asks for. */
  accept(flow: IncomingFlow, peer: FlowPeer): void {
    this.#run(
      peer,
      (error) => flow.abandon(error),
      (stopping, place) => this.#serve(flow, peer, place, stopping),
    )
  }

  #run(
    peer: FlowPeer,
    abandon: (error: Error) => void,
    serve: (stopping: AbortSignal, place: CountedFlow | undefined) => Promise<void>,
  ): void {
    const { tasks, open } = this.#options
    if (tasks.signal.aborted) {
      abandon(new Error('stopping'))
      return
    }
    const place = open.enter(peer.peerId)
    tasks.run('inbound flow', async (stopping) => {
      try {
        await serve(stopping, place)
      } catch (error) {
        this.#options.logger.debug({ peer: peer.peerId, path: peer.path, error }, 'inbound flow failed')
        abandon(error instanceof Error ? error : new Error(String(error)))
      } finally {
        place?.[Symbol.dispose]()
      }
    })
  }

  /** Until both sides are closed, or the dialler has been told why not. */
  async #serve(
    flow: IncomingFlow,
    peer: FlowPeer,
    place: CountedFlow | undefined,
    stopping: AbortSignal,
  ): Promise<void> {
    const limit = new TimeLimit(this.#options.handshakeTimeoutMs, stopping, flow.gone)
    let carry: Carry
    try {
      const admitted = await this.#admit(flow, peer, place, limit.signal)
      limit.restart(this.#options.dialTimeoutMs)
      const { protocol } = flow.request
      carry = await (protocol === 'udp' ? this.#openDatagrams(flow, admitted, limit) : this.#openStream(flow, limit))
    } catch (error) {
      if (!(error instanceof DialError)) throw error
      if (!flow.gone.aborted) await this.#refuse(flow, error, stopping)
      return
    } finally {
      limit[Symbol.dispose]()
    }
    this.#accepted.add()
    await carry(stopping)
  }

  async #refuse(flow: IncomingFlow, error: DialError, stopping: AbortSignal): Promise<void> {
    using limit = new TimeLimit(this.#options.handshakeTimeoutMs, stopping)
    await flow.refuse(error, limit.signal)
  }

  /** Dials the target and answers; gives what is to be done then. */
  async #openStream(flow: IncomingFlow, limit: TimeLimit): Promise<Carry> {
    const upstream = await this.#dial(flow, limit, this.#options.localDialer.dial)
    try {
      const stream = await flow.accept(limit.signal)
      return (stopping) => splice(stream, upstream, stopping)
    } catch (error) {
      resetStream(upstream, new Error('the dialler went away', { cause: error }))
      throw error
    }
  }

  async #openDatagrams(flow: IncomingFlow, place: CountedFlow, limit: TimeLimit): Promise<Carry> {
    const upstream = await this.#dial(flow, limit, this.#options.localDatagrams.dialDatagrams)
    try {
      const channel = await flow.acceptDatagrams(limit.signal)
      return (stopping) => exchangeDatagrams(countDatagrams(channel, place), upstream, stopping)
    } catch (error) {
      upstream[Symbol.dispose]()
      throw error
    }
  }

  /** Gives the place that the flow has. */
  async #admit(
    { request }: IncomingFlow,
    peer: FlowPeer,
    place: CountedFlow | undefined,
    signal: AbortSignal,
  ): Promise<CountedFlow> {
    const { nodeName, isStopping } = this.#options
    if (isStopping())
      throw new DialError('overloaded', `Cannot connect to ${placeOf(request, nodeName)}: ${nodeName} is stopping`)
    if (place === undefined) {
      throw new DialError(
        'overloaded',
        `Cannot connect to ${placeOf(request, nodeName)}: too many open flows on ${nodeName}`,
      )
    }
    const name = await this.#options.nameOf(peer.peerId, signal)
    if (name === undefined) {
      this.#logRefusal(peer, 'unknown peer', targetTextOf(request))
      this.#refused.add(1, { reason: 'unknown-peer' })
      throw new DialError('forbidden', `${nodeName} knows no node with the identity ${peer.peerId}`)
    }
    const refusal = await this.#options.checkTarget(request, signal)
    if (refusal === undefined) return place
    this.#refused.add(1, { reason: refusal.reason })
    this.#logRefusal({ ...peer, peerId: name }, refusal.reason, targetTextOf(request))
    throw refusal.error
  }

  async #dial<T>(
    { request, gone }: IncomingFlow,
    limit: TimeLimit,
    dial: (target: DialTarget, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const { nodeName, nodeAddress, dialTimeoutMs } = this.#options
    const { protocol, kind, port } = request
    const address = kind === 'node' ? nodeAddress() : request.address
    try {
      // With the name of this node: when ports towards the target run out, its other addresses have some.
      const target = { protocol, nodeName, kind: kind === 'reach' ? kind : undefined, address, port }
      return await dial(target, limit.signal)
    } catch (error) {
      if (limit.isOver) {
        const message = `connect ${placeOf(request, nodeName)}: no answer within ${dialTimeoutMs} ms`
        throw new DialError('unreachable', message, { cause: error })
      }
      gone.throwIfAborted()
      const failure = error instanceof DialError ? error.failure : 'unreachable'
      throw new DialError(failure, `${describeError(error)} on ${nodeName}`, { cause: error })
    }
  }

  #logRefusal(peer: FlowPeer, reason: string, backend: string): void {
    if (!this.#seldom.isDue(`${peer.peerId}/${reason}`)) return
    this.#options.logger.warn({ peer: peer.peerId, path: peer.path, reason, backend }, 'target refused')
  }
}
