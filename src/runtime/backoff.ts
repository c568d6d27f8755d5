/** How long to wait between attempts. */
export interface BackoffPolicy {
  readonly firstMs: number
  readonly maxMs: number
  /** Part of each delay that is random, 0..1, so that many nodes do not retry in step. */
  readonly jitter: number
}

/**
 * The delay before attempt number `attempt` (the first retry is 1): doubles from `firstMs` to `maxMs`, then the
 * jitter part is drawn anew. `random` returns 0..1.
 */
export function backoffDelayMs(policy: BackoffPolicy, attempt: number, random: () => number): number {
  const full = Math.min(policy.maxMs, policy.firstMs * 2 ** Math.min(attempt - 1, 30))
  return full * (1 - policy.jitter) + full * policy.jitter * random()
}
