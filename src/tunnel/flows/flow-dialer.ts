import { setMaxListeners } from 'node:events'
import { type ByteStream, DialError, type Dialer, type DialTarget, resetStream } from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Carrier, CarrierSource } from './carrier.ts'
import type { FlowCounter } from './flow-limits.ts'
import { type OpenRequest, openMessages, targetTextOf } from './open-message.ts'

/** What the dialling side of flows needs. */
export interface FlowDialerOptions {
  readonly carriers: CarrierSource
  readonly open: FlowCounter
  /** How long opening may take in all, with finding a path and the far end's own dial. */
  readonly timeoutMs: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** A carrier that does not answer within this time is taken for dead, and another one is tried. */
const carrierTimeoutMs = 3000

/** Paths tried for one flow before it fails. */
const maxCarriers = 3

/** Dials targets on other nodes through the tunnel; failures say what is missing, or what the far end met. */
export function createFlowDialer(options: FlowDialerOptions): Dialer {
  const flows = options.metrics.counter('tunnel_flows_total', 'Flows opened to peers, by result', ['result'])
  return {
    async dial(target, signal) {
      const request = requestOf(target)
      using limit = new TimeLimit(options.timeoutMs, signal)
      setMaxListeners(0, limit.signal)
      try {
        const stream = await openFlow(options, request, limit.signal)
        flows.add(1, { result: 'ok' })
        return stream
      } catch (error) {
        signal.throwIfAborted()
        const failure = dialErrorOf(error, request, limit)
        countFailure(flows, failure)
        throw failure
      }
    },
  }
}

async function openFlow(options: FlowDialerOptions, request: OpenRequest, signal: AbortSignal): Promise<ByteStream> {
  const { carrier, stream } = await openCarrier(options, request, signal)
  const counted = options.open.enter(carrier.peerId)
  if (counted === undefined) {
    resetStream(stream, new Error('too many flows'))
    throw new DialError('overloaded', `Cannot connect to ${placeOf(request)}: too many open flows on this node`)
  }
  stream.once('close', () => counted[Symbol.dispose]())
  try {
    await (carrier.messages ?? openMessages).request(stream, request, signal)
  } catch (error) {
    resetStream(stream, new Error('flow not opened', { cause: error }))
    throw error
  }
  options.logger.debug({ peer: request.nodeName, path: carrier.path, backend: placeOf(request) }, 'flow opened')
  return stream
}

/** Opens a stream on the best carrier; one that does not work is reported and the next best tried. */
async function openCarrier(
  { carriers, logger }: FlowDialerOptions,
  request: OpenRequest,
  signal: AbortSignal,
): Promise<{ readonly carrier: Carrier; readonly stream: ByteStream }> {
  const failures: unknown[] = []
  for (let attempt = 0; attempt < maxCarriers; attempt++) {
    const carrier = await carriers.carrierTo(request.nodeName, signal)
    using limit = new TimeLimit(carrierTimeoutMs, signal)
    try {
      const stream = await carrier.open(limit.signal)
      return { carrier, stream }
    } catch (error) {
      signal.throwIfAborted()
      failures.push(error)
      carriers.reportBroken(carrier, error)
      logger.debug({ peer: request.nodeName, path: carrier.path, error }, 'carrier failed')
    }
  }
  throw new DialError('no-path', `Cannot connect to ${placeOf(request)}: no path to ${request.nodeName} works`, {
    cause: new AggregateError(failures, `${failures.length} attempts failed`),
  })
}

function requestOf({ protocol, nodeName, kind, address, port }: DialTarget): OpenRequest {
  const target = targetTextOf({ address, port })
  if (nodeName === undefined) throw new DialError('no-path', `Cannot tunnel to ${target}: it is on no node`)
  if (protocol !== 'tcp') {
    throw new DialError('forbidden', `Cannot tunnel to ${target} on ${nodeName}: ${protocol} is not carried yet`)
  }
  return { protocol, nodeName, ...(kind && { kind }), address, port }
}

function dialErrorOf(error: unknown, request: OpenRequest, limit: TimeLimit): DialError {
  if (error instanceof DialError) return error
  const reason = limit.isOver ? 'no answer in time' : describeError(error)
  return new DialError('unreachable', `Cannot connect to ${placeOf(request)}: ${reason}`, { cause: error })
}

function placeOf(request: OpenRequest): string {
  return `${targetTextOf(request)} on ${request.nodeName}`
}

function countFailure(flows: Counter, error: DialError): void {
  flows.add(1, { result: error.failure })
}
