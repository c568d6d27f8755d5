import type { TunnelConfig } from '../config.ts'
import type { FlowLimits } from '../flows/flow-limits.ts'

/** How much may be open at once. */
export interface TunnelLimits {
  readonly inbound: FlowLimits
  readonly outbound: FlowLimits
  /** For the muxer: the flows of both directions, and some for identify, ping, directory and relaying. */
  readonly streamsPerConnection: number
}

const unlimited = 1_000_000
const controlStreams = 1024

/** The limits of `tunnelLimitConfig`; very high ones when it is off. */
export function tunnelLimitsOf({ tunnelLimitConfig: limits }: Pick<TunnelConfig, 'tunnelLimitConfig'>): TunnelLimits {
  if (!limits.enable) {
    const flows = { total: unlimited, perPeer: unlimited }
    return { inbound: flows, outbound: flows, streamsPerConnection: unlimited }
  }
  return {
    inbound: { total: limits.tunnelBaseStreamIn, perPeer: limits.tunnelPeerBaseStreamIn },
    outbound: { total: limits.tunnelBaseStreamOut, perPeer: limits.tunnelPeerBaseStreamOut },
    streamsPerConnection: Math.max(limits.tunnelPeerBaseStreamIn, limits.tunnelPeerBaseStreamOut) + controlStreams,
  }
}
