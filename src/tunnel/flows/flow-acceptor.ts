import { type ByteStream, DialError, type Dialer, resetStream, splice } from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { FlowCounter } from './flow-limits.ts'
import { type OpenMessages, type OpenRequest, openMessages, targetTextOf } from './open-message.ts'
import type { Refusal } from './target-check.ts'

/** Who opened a flow, proven by the connection's handshake. */
export interface FlowPeer {
  readonly peerId: string
  readonly path: string
}

/** What the far side of flows needs. */
export interface FlowAcceptorOptions {
  readonly nodeName: string
  readonly tasks: TaskGroup
  readonly open: FlowCounter
  readonly localDialer: Dialer
  /** Where the ports of this node itself are dialled. */
  readonly nodeAddress: () => string
  checkTarget(request: OpenRequest, signal: AbortSignal): Promise<Refusal | undefined>
  /** The name the peer is known by; may wait a moment for its record. */
  nameOf(peerId: string, signal: AbortSignal): Promise<string | undefined>
  readonly isStopping: () => boolean
  readonly dialTimeoutMs: number
  readonly handshakeTimeoutMs: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** A stream that a peer opened to ask for a target. */
interface AskedStream {
  readonly stream: ByteStream
  readonly peer: FlowPeer
  readonly messages: OpenMessages
}

/** One line per peer and reason in this time; a peer that scans us must not fill the log. */
const quietMs = 10_000

/** Serves flows that peers open: checks the target, dials it on this node, answers, and copies bytes until both ends close. */
export class FlowAcceptor {
  readonly #options: FlowAcceptorOptions
  readonly #refused: Counter
  readonly #accepted: Counter
  readonly #lastLogged = new Map<string, number>()

  constructor(options: FlowAcceptorOptions) {
    this.#options = options
    const { metrics } = options
    this.#refused = metrics.counter('tunnel_refused_targets_total', 'Targets not dialled for peers', ['reason'])
    this.#accepted = metrics.counter('tunnel_accepted_flows_total', 'Flows served for peers')
  }

  /** Takes ownership of a stream that a peer opened, and on which it says what it wants by these messages. */
  accept(stream: ByteStream, peer: FlowPeer, messages: OpenMessages = openMessages): void {
    const { tasks, open } = this.#options
    if (tasks.signal.aborted) {
      resetStream(stream, new Error('stopping'))
      return
    }
    const counted = open.enter(peer.peerId)
    tasks.run('inbound flow', async (stopping) => {
      using _counted = counted
      try {
        await this.#serve({ stream, peer, messages }, counted !== undefined, stopping)
      } catch (error) {
        this.#options.logger.debug({ peer: peer.peerId, path: peer.path, error }, 'inbound flow failed')
        resetStream(stream, error instanceof Error ? error : new Error(String(error)))
      }
    })
  }

  async #serve(asked: AskedStream, hasRoom: boolean, stopping: AbortSignal): Promise<void> {
    const upstream = await this.#open(asked, hasRoom, stopping)
    if (upstream !== undefined) await splice(asked.stream, upstream, stopping)
  }

  /** The dialled target, after the dialler was told; undefined when there is none and the stream is done with. */
  async #open(
    { stream, peer, messages }: AskedStream,
    hasRoom: boolean,
    stopping: AbortSignal,
  ): Promise<ByteStream | undefined> {
    using limit = new TimeLimit(this.#options.handshakeTimeoutMs, stopping)
    const handshake = limit.signal
    const request = await messages.read(stream, handshake)
    if (request === undefined) {
      stream.destroy()
      return undefined
    }
    const dialling = AbortSignal.any([handshake, whenClosed(stream)])
    const upstream = await this.#dial(request, peer, hasRoom, dialling).catch(asDialError)
    if (!(upstream instanceof DialError)) {
      await this.#answerOk(messages.answerOk(stream, request, handshake), upstream)
      return upstream
    }
    if (!stream.destroyed) {
      await messages.answerError(stream, upstream, handshake)
      await drained(stream, handshake)
    }
    return undefined
  }

  async #answerOk(answered: Promise<void>, upstream: ByteStream): Promise<void> {
    try {
      await answered
    } catch (error) {
      resetStream(upstream, new Error('the dialler went away', { cause: error }))
      throw error
    }
    this.#accepted.add()
  }

  async #dial(request: OpenRequest, peer: FlowPeer, hasRoom: boolean, signal: AbortSignal): Promise<ByteStream> {
    const { nodeName, localDialer, nodeAddress, dialTimeoutMs, isStopping } = this.#options
    const place = `${targetTextOf(request)} on ${nodeName}`
    if (isStopping()) throw new DialError('overloaded', `Cannot connect to ${place}: ${nodeName} is stopping`)
    if (!hasRoom) throw new DialError('overloaded', `Cannot connect to ${place}: too many open flows on ${nodeName}`)
    await this.#check(request, peer, signal)
    const address = request.kind === 'node' ? nodeAddress() : request.address
    using limit = new TimeLimit(dialTimeoutMs, signal)
    try {
      return await localDialer.dial({ protocol: 'tcp', address, port: request.port }, limit.signal)
    } catch (error) {
      if (limit.isOver) {
        throw new DialError('unreachable', `connect ${place}: no answer within ${dialTimeoutMs} ms`, { cause: error })
      }
      const failure = error instanceof DialError ? error.failure : 'unreachable'
      throw new DialError(failure, `${describeError(error)} on ${nodeName}`, { cause: error })
    }
  }

  async #check(request: OpenRequest, peer: FlowPeer, signal: AbortSignal): Promise<void> {
    const name = await this.#options.nameOf(peer.peerId, signal)
    if (name === undefined) {
      this.#logRefusal(peer, 'unknown peer', targetTextOf(request))
      this.#refused.add(1, { reason: 'unknown-peer' })
      throw new DialError('forbidden', `${this.#options.nodeName} knows no node with the identity ${peer.peerId}`)
    }
    const refusal = await this.#options.checkTarget(request, signal)
    if (refusal === undefined) return
    this.#refused.add(1, { reason: refusal.reason })
    this.#logRefusal({ ...peer, peerId: name }, refusal.reason, targetTextOf(request))
    throw refusal.error
  }

  #logRefusal(peer: FlowPeer, reason: string, backend: string): void {
    const key = `${peer.peerId}/${reason}`
    const now = Date.now()
    if (now - (this.#lastLogged.get(key) ?? 0) < quietMs) return
    if (this.#lastLogged.size > 1000) this.#lastLogged.clear()
    this.#lastLogged.set(key, now)
    this.#options.logger.warn({ peer: peer.peerId, path: peer.path, reason, backend }, 'target refused')
  }
}

/** Aborts when the dialler goes away, so that nobody waits for a target that nobody wants. */
function whenClosed(stream: ByteStream): AbortSignal {
  const controller = new AbortController()
  stream.once('close', () => controller.abort(new Error('the dialler went away')))
  return controller.signal
}

function asDialError(error: unknown): DialError {
  if (error instanceof DialError) return error
  throw error
}

/** Lets the dialler read the answer and close before our side of the stream goes. */
async function drained(stream: ByteStream, signal: AbortSignal): Promise<void> {
  stream.resume()
  const { promise, resolve } = Promise.withResolvers<void>()
  stream.once('close', resolve)
  stream.on('error', () => resolve())
  signal.addEventListener('abort', () => resolve(), { once: true })
  await promise
  stream.destroy()
}
