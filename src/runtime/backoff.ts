/** How long to wait between attempts. */
export interface BackoffPolicy {
  readonly firstMs: number
  readonly maxMs: number
  /** Part of each delay that is random, 0..1, so that many nodes do not retry in step. */
  readonly jitter: number
  /** For what may never succeed: after so many attempts the delay doubles on, up to another limit. */
  readonly patience?: { readonly afterAttempts: number; readonly maxMs: number }
}

/**
 * The delay before attempt number `attempt` (the first retry is 1): doubles from `firstMs` to `maxMs`, and after
 * `patience.afterAttempts` from there to its limit; then the jitter part is drawn anew. `random` returns 0..1.
 */
export function backoffDelayMs(policy: BackoffPolicy, attempt: number, random: () => number): number {
  const full = fullDelayMs(policy, attempt)
  return full * (1 - policy.jitter) + full * policy.jitter * random()
}

function fullDelayMs({ firstMs, maxMs, patience }: BackoffPolicy, attempt: number): number {
  const over = patience === undefined ? 0 : attempt - patience.afterAttempts
  if (patience !== undefined && over > 0) return Math.min(patience.maxMs, maxMs * 2 ** Math.min(over, 30))
  return Math.min(maxMs, firstMs * 2 ** Math.min(attempt - 1, 30))
}
