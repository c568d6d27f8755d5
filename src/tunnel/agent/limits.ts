import type { Metrics } from '../../observability/index.ts'
import type { TunnelConfig } from '../config.ts'
import { FlowCounter, type FlowLimits } from '../flows/flow-limits.ts'

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

/** Counters that keep to the limits, one for each direction. */
export function createFlowCounters(
  { inbound, outbound }: Pick<TunnelLimits, 'inbound' | 'outbound'>,
  metrics: Metrics,
): { inbound: FlowCounter; outbound: FlowCounter } {
  const evicted = metrics.counter(
    'tunnel_evicted_flows_total',
    'UDP flows that were ended at a limit, so that another flow could begin',
    ['direction'],
  )
  return {
    inbound: new FlowCounter(inbound, () => evicted.add(1, { direction: 'in' })),
    outbound: new FlowCounter(outbound, () => evicted.add(1, { direction: 'out' })),
  }
}
