import { type CircuitRelayServerInit, type CircuitRelayService, circuitRelayServer } from '@libp2p/circuit-relay-v2'
import type { Connection, Stream } from '@libp2p/interface'
import { type SpliceResult, splice } from '../../net/index.ts'
import { StreamDuplex } from './stream-duplex.ts'

/** The steps of the library's relay that its types do not show; pinned by its exact version and a test. */
interface RelaySteps {
  readonly shutdownController: AbortController
  /** Answers a request to be connected: opens the stream to the target, answers, joins the two streams. */
  handleConnect(
    request: { readonly stream: Unwrappable; readonly connection: Connection },
    options: unknown,
  ): Promise<void>
  /** Opens the stream to the target; undefined when the target refuses. */
  stopHop(request: { readonly connection: Connection }, options: unknown): Promise<Stream | undefined>
}

interface Unwrappable {
  unwrap(): Stream
}

/** Who counts what is relayed between two peers. */
export interface RelayMeter {
  open(pair: readonly [string, string], streams: readonly StreamDuplex[]): void
  close(pair: readonly [string, string], streams: readonly StreamDuplex[], result: SpliceResult): void
}

type Components = Parameters<ReturnType<typeof circuitRelayServer>>[0]

/**
 * The library's relay, but the streams of a relayed connection are joined by `splice`. The library reads ahead of
 * a slow receiver without a limit, and keeps every byte of one direction for as long as the connection lives.
 */
export function relayServer(
  init: CircuitRelayServerInit,
  meter?: RelayMeter,
): (components: Components) => CircuitRelayService {
  const create = circuitRelayServer(init)
  return (components) => {
    const service = create(components)
    const steps = stepsOf(service)
    const handleConnect = steps.handleConnect
    Object.assign(service, {
      handleConnect: (...[request, options]: Parameters<RelaySteps['handleConnect']>) => {
        return connect({ handleConnect, steps, meter }, request, options)
      },
    })
    return service
  }
}

interface Relaying {
  readonly handleConnect: RelaySteps['handleConnect']
  readonly steps: RelaySteps
  readonly meter: RelayMeter | undefined
}

/** Lets the library do all but the joining: it gets streams that are at their end, and joins those. */
async function connect(
  { handleConnect, steps, meter }: Relaying,
  request: Parameters<RelaySteps['handleConnect']>[0],
  options: unknown,
): Promise<void> {
  let target: Stream | undefined
  let targetPeer = ''
  const openTarget = async (...args: Parameters<RelaySteps['stopHop']>) => {
    target = await steps.stopHop(...args)
    targetPeer = args[0].connection.remotePeer.toString()
    return target === undefined ? undefined : endedStream()
  }
  const unwrap = () => {
    const source = request.stream.unwrap()
    if (target !== undefined) {
      const pair = [request.connection.remotePeer.toString(), targetPeer] as const
      void join(pair, [new StreamDuplex(source), new StreamDuplex(target)], steps.shutdownController.signal, meter)
    }
    return endedStream()
  }
  try {
    const instead = Object.create(steps, { stopHop: { value: openTarget } })
    await handleConnect.call(instead, { ...request, stream: { ...request.stream, unwrap } }, options)
  } catch (error) {
    target?.abort(error instanceof Error ? error : new Error(String(error)))
    throw error
  }
}

async function join(
  pair: readonly [string, string],
  streams: readonly [StreamDuplex, StreamDuplex],
  signal: AbortSignal,
  meter: RelayMeter | undefined,
): Promise<void> {
  meter?.open(pair, streams)
  const result = await splice(...streams, signal)
  meter?.close(pair, streams, result)
}

/** All that the joining library needs of a stream, with nothing to say and nowhere to send. */
function endedStream(): Stream {
  const stream: unknown = { source: [], sink: async () => {}, abort() {} }
  return stream as Stream
}

function stepsOf(service: CircuitRelayService): RelaySteps {
  const isThere = ['handleConnect', 'stopHop'].every((name) => typeof Reflect.get(service, name) === 'function')
  if (isThere && Reflect.get(service, 'shutdownController') instanceof AbortController) {
    return service as unknown as RelaySteps
  }
  throw new Error('Cannot use this version of libp2p: its relay server has other steps')
}
