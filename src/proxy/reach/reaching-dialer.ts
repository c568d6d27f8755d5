import type { Backend } from '../../model/index.ts'
import { type ByteStream, DialError, type Dialer, type DialTarget } from '../../net/index.ts'
import { TimeLimit } from '../../runtime/index.ts'
import type { Reachability } from './reachability.ts'

/** Where a route breaks down nothing is answered; the tunnel shall still have time. */
const attemptMs = 1_000

/**
 * Dials endpoints on other nodes over the network where that is known to lead there, and all else with `remote`. When
 * nothing answers `remote` is tried as well.
 */
export function createReachingDialer(
  remote: Dialer,
  ownNode: string,
  reachability: Pick<Reachability, 'reached' | 'used' | 'suspect' | 'direct'>,
): Dialer {
  return {
    dial(target, signal) {
      const { protocol, nodeName, kind, address, port } = target
      const endpoint = { ...(nodeName !== undefined && { nodeName }), address, port }
      const isElsewhere = kind === undefined && nodeName !== undefined && nodeName !== ownNode
      if (!isElsewhere) return remote.dial(target, signal)
      reachability.used(endpoint)
      if (reachability.reached?.has(endpoint, protocol) !== true) return remote.dial(target, signal)
      return dialReached(target, endpoint, signal)
    },
  }

  async function dialReached(target: DialTarget, endpoint: Backend, signal: AbortSignal): Promise<ByteStream> {
    const { protocol, address, port } = target
    using limit = new TimeLimit(attemptMs, signal)
    try {
      return await reachability.direct.dial({ protocol, address, port }, limit.signal)
    } catch (error) {
      signal.throwIfAborted()
      reachability.suspect(endpoint)
      if (error instanceof DialError && error.failure !== 'unreachable') throw error
      return await remote.dial(target, signal)
    }
  }
}
