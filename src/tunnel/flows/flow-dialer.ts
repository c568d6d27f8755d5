import { setMaxListeners } from 'node:events'
import {
  type ByteStream,
  type DatagramChannel,
  type DatagramDialer,
  DialError,
  type Dialer,
  type DialTarget,
} from '../../net/index.ts'
import { type Counter, describeError, type Logger, type Metrics } from '../../observability/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Carrier, CarrierSource } from './carrier.ts'
import { countDatagrams } from './counted-datagrams.ts'
import type { CountedFlow, FlowCounter } from './flow-limits.ts'
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
    dial: (target, signal) => dialCounted(options, flows, target, signal, streams),
    dialDatagrams: (target, signal) => dialCounted(options, flows, target, signal, datagrams),
  }
}

/** How one kind of flow is opened on a carrier, and how it leaves its place when it is over. */
interface FlowKind<T> {
  open(carrier: Carrier, request: OpenRequest, signal: AbortSignal): Promise<T>
  count(opened: T, place: CountedFlow): T
}

const streams: FlowKind<ByteStream> = {
  open: (carrier, request, signal) => carrier.open(request, signal),
  count: (stream, place) => stream.once('close', () => place[Symbol.dispose]()),
}

const datagrams: FlowKind<DatagramChannel> = {
  open: (carrier, request, signal) => carrier.openDatagrams(request, signal),
  count(channel, place) {
    void channel.closed.then(() => place[Symbol.dispose]())
    return countDatagrams(channel, place)
  },
}

async function dialCounted<T>(
  options: FlowDialerOptions,
  flows: Counter,
  target: DialTarget,
  signal: AbortSignal,
  kind: FlowKind<T>,
): Promise<T> {
  const request = requestOf(target)
  try {
    signal.throwIfAborted()
    const standing = options.carriers.standingTo(request.nodeName)
    const opened =
      standing === undefined
        ? await openWithin(options, request, signal, kind)
        : await openStanding(options, standing, request, signal, kind)
    flows.add(1, ok)
    return opened
  } catch (error) {
    signal.throwIfAborted()
    const failure = dialErrorOf(error, request)
    flows.add(1, { result: failure.failure })
    throw failure
  }
}

const ok = { result: 'ok' }

/** The usual case: nothing has to be found first, and nothing but the carrier itself looks at the clock. */
async function openStanding<T>(
  options: FlowDialerOptions,
  carrier: Carrier,
  request: OpenRequest,
  signal: AbortSignal,
  kind: FlowKind<T>,
): Promise<T> {
  try {
    return await openCounted(options, carrier, request, signal, kind)
  } catch (error) {
    signal.throwIfAborted()
    if (error instanceof DialError) throw error
    noteBroken(options, carrier, request, error)
    return await openWithin(options, request, signal, kind)
  }
}

async function openWithin<T>(
  options: FlowDialerOptions,
  request: OpenRequest,
  signal: AbortSignal,
  kind: FlowKind<T>,
): Promise<T> {
  using limit = new TimeLimit(options.timeoutMs, signal)
  setMaxListeners(0, limit.signal)
  try {
    return await openOnBest(options, request, limit.signal, kind)
  } catch (error) {
    signal.throwIfAborted()
    if (!limit.isOver || error instanceof DialError) throw error
    throw new DialError('unreachable', `Cannot connect to ${placeOf(request)}: no answer in time`, { cause: error })
  }
}

/** Opens on the best carrier; one that does not work is reported and the next best tried. */
async function openOnBest<T>(
  options: FlowDialerOptions,
  request: OpenRequest,
  signal: AbortSignal,
  kind: FlowKind<T>,
): Promise<T> {
  const failures: unknown[] = []
  for (let attempt = 0; attempt < maxCarriers; attempt++) {
    const carrier = await options.carriers.carrierTo(request.nodeName, signal)
    try {
      return await openCounted(options, carrier, request, signal, kind)
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof DialError) throw error
      failures.push(error)
      noteBroken(options, carrier, request, error)
    }
  }
  throw new DialError('no-path', `Cannot connect to ${placeOf(request)}: no path to ${request.nodeName} works`, {
    cause: new AggregateError(failures, `${failures.length} attempts failed`),
  })
}

function noteBroken(
  { carriers, logger }: FlowDialerOptions,
  carrier: Carrier,
  request: OpenRequest,
  error: unknown,
): void {
  carriers.reportBroken(carrier, error)
  logger.debug({ peer: request.nodeName, path: carrier.path, error }, 'carrier failed')
}

async function openCounted<T>(
  { open: counter, logger }: FlowDialerOptions,
  carrier: Carrier,
  request: OpenRequest,
  signal: AbortSignal,
  kind: FlowKind<T>,
): Promise<T> {
  const counted = counter.enter(carrier.peerId)
  if (counted === undefined) {
    throw new DialError('overloaded', `Cannot connect to ${placeOf(request)}: too many open flows on this node`)
  }
  try {
    const opened = await kind.open(carrier, request, signal)
    logger.debug({ peer: request.nodeName, path: carrier.path, backend: placeOf(request) }, 'flow opened')
    return kind.count(opened, counted)
  } catch (error) {
    counted[Symbol.dispose]()
    throw error
  }
}

function requestOf({ protocol, nodeName, kind, address, port }: DialTarget): OpenRequest {
  if (nodeName === undefined) {
    throw new DialError('no-path', `Cannot tunnel to ${targetTextOf({ address, port })}: it is on no node`)
  }
  return { protocol, nodeName, ...(kind && { kind }), address, port }
}

function dialErrorOf(error: unknown, request: OpenRequest): DialError {
  if (error instanceof DialError) return error
  return new DialError('unreachable', `Cannot connect to ${placeOf(request)}: ${describeError(error)}`, {
    cause: error,
  })
}

function placeOf(request: OpenRequest): string {
  return `${targetTextOf(request)} on ${request.nodeName}`
}
