import type { Conntrack } from '../../linux/index.ts'
import type { Logger } from '../../observability/index.ts'
import { backoffDelayMs } from '../../runtime/index.ts'
import { createStaleFlowTest, type FlowRules, mayHoldStaleFlows } from './stale-flows.ts'

/**
 * What is to be cleared away after rules changed, so that clients go where they lead now. A failure keeps no rules back:
 * the work is done again with later looks, ever less often, from the oldest rules whose traces are still there.
 */
export interface Aftercare<R> {
  /** These rules took the place of those; before undefined: of whoever's. */
  after(before: R | undefined, rules: R, signal: AbortSignal): Promise<void>
  /** Nothing has changed since; does what is still owed and due. */
  again(rules: R, signal: AbortSignal): Promise<void>
}

/** What to do, and when. */
export interface AftercareOptions<R> {
  readonly isNeeded: (before: R | undefined, rules: R) => boolean
  readonly run: (before: R | undefined, rules: R, signal: AbortSignal) => Promise<void>
  readonly logger: Logger
  /** A monotonic clock. */
  readonly nowMs: () => number
}

const retry = { firstMs: 1_000, maxMs: 60_000, jitter: 0.2 }

/** Owes nothing yet. */
export function createAftercare<R>({ isNeeded, run, logger, nowMs }: AftercareOptions<R>): Aftercare<R> {
  let owed: { readonly since: R | undefined; readonly failures: number; readonly dueMs: number } | undefined

  const attempt = async (since: R | undefined, rules: R, signal: AbortSignal): Promise<void> => {
    try {
      await run(since, rules, signal)
      owed = undefined
    } catch (error) {
      const failures = (owed?.failures ?? 0) + 1
      if (failures === 1 && !signal.aborted) logger.warn({ error }, 'clients may wait for endpoints that are gone')
      owed = { since, failures, dueMs: nowMs() + backoffDelayMs(retry, failures, Math.random) }
    }
  }
  return {
    async after(before, rules, signal) {
      const since = owed === undefined ? before : owed.since
      if (owed !== undefined || isNeeded(before, rules)) await attempt(since, rules, signal)
    },
    async again(rules, signal) {
      if (owed !== undefined && nowMs() >= owed.dueMs) await attempt(owed.since, rules, signal)
    },
  }
}

/** Forgets flows that the new rules would send elsewhere; one that is in use never ends by itself. */
export function createFlowAftercare<R extends FlowRules>(
  options: Pick<AftercareOptions<R>, 'logger' | 'nowMs'> & { readonly conntrack: Conntrack },
): Aftercare<R> {
  const { conntrack, logger } = options
  return createAftercare<R>({
    ...options,
    isNeeded: mayHoldStaleFlows,
    async run(before, rules, signal) {
      const count = await conntrack.forgetFlows(createStaleFlowTest(before, rules), signal)
      if (count > 0) logger.debug({ count }, 'flows without a connection go where the new rules lead')
    },
  })
}
