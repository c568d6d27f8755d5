import type { Client } from '../../loadbalancer/index.ts'
import { backendIdOf } from '../../model/index.ts'
import { type ByteStream, DialError, type Dialer, PathLostError, resetStream, splice } from '../../net/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import {
  type DialFirstReachableOptions,
  type Dialled,
  type DialPolicy,
  dialFirstReachable,
  type FailedDial,
  NoBackendError,
} from '../l4/dial-first-reachable.ts'
import type { UserspaceMetrics } from './metrics.ts'
import type { WarnOfReset } from './reset-warning.ts'
import type { BalancedRoute } from './route-table.ts'

/** A connection that knows, over TCP, which address it comes from. */
export type ClientStream = ByteStream & { readonly remoteAddress?: string | undefined }

/** What carrying a connection needs. */
export interface CarrierOptions {
  readonly dialer: Dialer
  readonly dialPolicyOf: (route: BalancedRoute) => DialPolicy
  readonly logger: Logger
  readonly metrics: UserspaceMetrics
  readonly warnOfReset: WarnOfReset
}

/**
 * Carries one accepted connection to a backend of the route until both are closed. What the client sends meanwhile
 * waits in its own socket buffers; a client that goes away ends the dial; one that reaches no backend is reset.
 * Closing the client is also how the owner ends it early.
 */
export async function carryConnection(
  client: ClientStream,
  route: BalancedRoute,
  options: CarrierOptions,
): Promise<void> {
  const dialled = await dialForClient(client, route, options)
  if (dialled === undefined) return
  const held = route.balancer.hold(dialled.backend)
  const result = await splice(client, dialled.stream)
  held[Symbol.dispose]()
  options.metrics.carried(result)
  const { ended, error } = result
  options.logger.debug({ servicePort: route.id, reason: ended, error }, 'connection ended')
  // A reset by the backend is its own affair; this one is ours.
  if (error instanceof PathLostError) {
    options.warnOfReset(route.id, `${dialled.backend.nodeName ?? 'backend'}: ${describeError(error)}`)
  }
}

/** Asks the kernel who a client is only when the balancer wants to know. */
class SocketClient implements Client {
  readonly #stream: ClientStream

  constructor(stream: ClientStream) {
    this.#stream = stream
  }

  get address(): string | undefined {
    return this.#stream.remoteAddress
  }
}

/** Undefined when there is nothing to carry; the client is closed then. */
function dialForClient(
  client: ClientStream,
  route: BalancedRoute,
  options: CarrierOptions,
): Promise<Dialled | undefined> {
  const dialing = new AbortController()
  const onClientGone = () => dialing.abort(new Error('the client went away'))
  client.once('close', onClientGone)
  const wanted: DialFirstReachableOptions = {
    dialer: options.dialer,
    balancer: route.balancer,
    client: new SocketClient(client),
    policy: options.dialPolicyOf(route),
    onFailure: (failure) => recordFailure(failure, route, options),
  }
  return dialFirstReachable(wanted, dialing.signal).then(
    (dialled) => {
      client.off('close', onClientGone)
      return dialled
    },
    (error: unknown) => {
      client.off('close', onClientGone)
      giveUp(client, route, error, options)
      return undefined
    },
  )
}

/** Counts a dial that failed, and tells of it where details are wanted. */
export function recordFailure(
  { backend, error }: FailedDial,
  route: BalancedRoute,
  { logger, metrics }: CarrierOptions,
): void {
  metrics.dialFailed(error instanceof DialError ? error.failure : 'other')
  logger.debug({ servicePort: route.id, backend: backendIdOf(backend), error }, 'cannot dial backend')
}

function giveUp(client: ByteStream, route: BalancedRoute, error: unknown, options: CarrierOptions): void {
  resetStream(client, new Error('no backend was reached', { cause: error }))
  // Anything else is the client's or our own going away, which is nobody's fault.
  if (!(error instanceof NoBackendError)) return
  options.metrics.refused('no-backend')
  options.warnOfReset(route.id, describeError(error))
}
