import { setMaxListeners } from 'node:events'
import { type DatagramDialer, DialError, type Dialer, type DialTarget } from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Carrier, CarrierSource } from './carrier.ts'
import type { FlowCounter } from './flow-limits.ts'
import { type OpenRequest, targetTextOf } from './open-message.ts'

/** What the dialling side of flows needs. */
export interface FlowDialerOptions {
  readonly carriers: CarrierSource
  readonly open: FlowCounter
  /** How long opening may take in all, with finding a path and the far end's own dial. */
  readonly timeoutMs: number
  readonly logger: Logger
  readonly metrics: Metrics
}

/** Paths tried for one flow before it fails. */
const maxCarriers = 3

/** Dials targets on other nodes through the tunnel; failures say what is missing, or what the far end met. */
export function createFlowDialer(options: FlowDialerOptions): Dialer & DatagramDialer {
  const flows = options.metrics.counter('tunnel_flows_total', 'Flows opened to peers, by result', ['result'])
  return {
    dial: (target, signal) =>
      dialCounted(options, flows, target, signal, async (carrier, request, limit) => {
        const stream = await carrier.open(request, limit)
        return { opened: stream, onClosed: (leave) => stream.once('close', leave) }
      }),
    dialDatagrams: (target, signal) =>
      dialCounted(options, flows, target, signal, async (carrier, request, limit) => {
        const channel = await carrier.openDatagrams(request, limit)
        return { opened: channel, onClosed: (leave) => void channel.closed.then(leave) }
      }),
  }
}

/** Opens a flow on a carrier, and says how to learn of its end. */
type Open<T> = (
  carrier: Carrier,
  request: OpenRequest,
  signal: AbortSignal,
) => Promise<{ readonly opened: T; readonly onClosed: (leave: () => void) => void }>

async function dialCounted<T>(
  options: FlowDialerOptions,
  flows: Counter,
  target: DialTarget,
  signal: AbortSignal,
  open: Open<T>,
): Promise<T> {
  const request = requestOf(target)
  using limit = new TimeLimit(options.timeoutMs, signal)
  setMaxListeners(0, limit.signal)
  try {
    const opened = await openFlow(options, request, limit.signal, open)
    flows.add(1, { result: 'ok' })
    return opened
  } catch (error) {
    signal.throwIfAborted()
    const failure = dialErrorOf(error, request, limit)
    countFailure(flows, failure)
    throw failure
  }
}

/** Opens on the best carrier; one that does not work is reported and the next best tried. */
async function openFlow<T>(
  options: FlowDialerOptions,
  request: OpenRequest,
  signal: AbortSignal,
  open: Open<T>,
): Promise<T> {
  const { carriers, logger } = options
  const failures: unknown[] = []
  for (let attempt = 0; attempt < maxCarriers; attempt++) {
    const carrier = await carriers.carrierTo(request.nodeName, signal)
    try {
      return await openCounted(options, carrier, request, signal, open)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof DialError) throw error
      failures.push(error)
      carriers.reportBroken(carrier, error)
      logger.debug({ peer: request.nodeName, path: carrier.path, error }, 'carrier failed')
    }
  }
  throw new DialError('no-path', `Cannot connect to ${placeOf(request)}: no path to ${request.nodeName} works`, {
    cause: new AggregateError(failures, `${failures.length} attempts failed`),
  })
}

async function openCounted<T>(
  { open: counter, logger }: FlowDialerOptions,
  carrier: Carrier,
  request: OpenRequest,
  signal: AbortSignal,
  open: Open<T>,
): Promise<T> {
  const counted = counter.enter(carrier.peerId)
  if (counted === undefined) {
    throw new DialError('overloaded', `Cannot connect to ${placeOf(request)}: too many open flows on this node`)
  }
  try {
    const { opened, onClosed } = await open(carrier, request, signal)
    onClosed(() => counted[Symbol.dispose]())
    logger.debug({ peer: request.nodeName, path: carrier.path, backend: placeOf(request) }, 'flow opened')
    return opened
  } catch (error) {
    counted[Symbol.dispose]()
    throw error
  }
}

function requestOf({ protocol, nodeName, kind, address, port }: DialTarget): OpenRequest {
  const target = targetTextOf({ address, port })
  if (nodeName === undefined) throw new DialError('no-path', `Cannot tunnel to ${target}: it is on no node`)
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
