import { backendIdOf, type VirtualService, type WeightedDestination } from '../../model/index.ts'
import type { ByteStream, Dialer } from '../../net/index.ts'
import { splice } from '../../net/index.ts'
import { describeError } from '../../observability/index.ts'
import { dialFirstReachable } from '../../proxy/index.ts'
import type { Destinations } from '../backends/destinations.ts'
import { chooseByWeight } from '../routing/choose-route.ts'

/** What carrying connections needs. */
export interface StreamSurroundings {
  readonly destinations: Destinations
  readonly dialer: Dialer
  readonly random: () => number
  readonly dialTimeoutMs: number
}

/** A rule for connections, of tcp or tls. */
export interface StreamRoute {
  readonly id: string
  readonly virtualService: VirtualService
  readonly rule: { readonly destinations: readonly WeightedDestination[] }
}

/** How a connection went. */
export interface StreamEnd {
  readonly backend: string | undefined
  readonly bytesIn: number
  readonly bytesOut: number
  /** Absent when it was carried to its end. */
  readonly problem?: string
}

/** Carries a connection to a backend of the rule until both sides are closed; owns the client's stream. */
export async function carryStream(
  client: ByteStream,
  clientAddress: string,
  { rule, virtualService }: StreamRoute,
  surroundings: StreamSurroundings,
): Promise<StreamEnd> {
  const failed = (problem: string): StreamEnd => {
    client.destroy()
    return { backend: undefined, bytesIn: 0, bytesOut: 0, problem }
  }
  const destination = chooseByWeight(rule.destinations, surroundings.random())
  if (destination === undefined) return failed('the rule has no destination')
  const group = surroundings.destinations.resolve(destination, virtualService.namespace, false)
  if ('problem' in group) return failed(group.problem)
  const gone = new AbortController()
  const onClosed = () => gone.abort(new Error('the client went away'))
  client.once('close', onClosed)
  const attemptTimeoutMs = group.policy.connectTimeoutMs ?? surroundings.dialTimeoutMs
  const policy = { maxAttempts: 4, attemptTimeoutMs, slowAfterMs: 1_000, totalTimeoutMs: attemptTimeoutMs * 2 }
  try {
    const { stream, backend } = await dialFirstReachable(
      {
        dialer: surroundings.dialer,
        balancer: group.balancer,
        client: { address: clientAddress },
        policy,
        onFailure: () => {},
      },
      gone.signal,
    )
    client.off('close', onClosed)
    using _held = group.balancer.hold(backend)
    const result = await splice(client, stream, new AbortController().signal)
    return { backend: backendIdOf(backend), bytesIn: result.bytesToUpstream, bytesOut: result.bytesToDownstream }
  } catch (error) {
    return failed(describeError(error))
  }
}
