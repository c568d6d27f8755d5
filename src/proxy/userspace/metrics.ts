import type { SpliceResult } from '../../net/index.ts'
import type { Metrics } from '../../observability/index.ts'

/** Why a connection was reset before any byte was carried. */
export type RefusalReason = 'unknown-address' | 'too-many-connections' | 'no-backend'

/** What the userspace proxy counts. */
export interface UserspaceMetrics {
  accepted(): void
  opened(): void
  closed(): void
  refused(reason: RefusalReason): void
  /** `reason` must be one of a few words. */
  dialFailed(reason: string): void
  carried(result: SpliceResult): void
}

/** Registers the proxy's metrics. */
export function createUserspaceMetrics(metrics: Metrics): UserspaceMetrics {
  const connections = metrics.counter('userspace_connections_total', 'Connections accepted by the userspace proxy')
  let openNow = 0
  const open = metrics.gauge('userspace_open_connections', 'Connections open in the userspace proxy')
  const refusals = metrics.counter('userspace_refused_total', 'Connections reset before any byte was carried', [
    'reason',
  ])
  const dialFailures = metrics.counter('userspace_dial_failures_total', 'Backends that could not be dialled', [
    'reason',
  ])
  const ends = metrics.counter('userspace_ended_total', 'Carried connections by how they ended', ['how'])
  const bytes = metrics.counter('userspace_bytes_total', 'Bytes of carried connections that have ended', ['direction'])
  return {
    accepted: () => connections.add(),
    opened: () => open.set(++openNow),
    closed: () => open.set(--openNow),
    refused: (reason) => refusals.add(1, { reason }),
    dialFailed: (reason) => dialFailures.add(1, { reason }),
    carried({ ended, bytesToUpstream, bytesToDownstream }) {
      ends.add(1, { how: ended })
      bytes.add(bytesToUpstream, { direction: 'to-backend' })
      bytes.add(bytesToDownstream, { direction: 'to-client' })
    },
  }
}
