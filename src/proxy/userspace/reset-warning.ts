import type { Logger } from '../../observability/index.ts'

/** The same reason for the same ServicePort is told again only after this long. */
const quietMs = 10_000
/** Bounds memory when the reasons keep changing. */
const maxRemembered = 1_000

interface Told {
  readonly atMs: number
  /** How often it happened since, untold. */
  untold: number
}

/** Warns that a connection was reset: once per ServicePort and reason in 10 s, with the number of those left out. */
export type WarnOfReset = (servicePort: string, reason: string) => void

/** Makes the rate limit; it remembers a bounded number of reasons. */
export function createResetWarning(logger: Logger, nowMs: () => number): WarnOfReset {
  const told = new Map<string, Told>()
  return (servicePort, reason) => {
    const key = `${servicePort} ${reason}`
    const before = told.get(key)
    if (before !== undefined && nowMs() - before.atMs < quietMs) {
      before.untold += 1
      return
    }
    // Deleted first, so that the map's order is the order of telling and the oldest is forgotten first.
    told.delete(key)
    const [oldest] = told.keys()
    if (told.size >= maxRemembered && oldest !== undefined) told.delete(oldest)
    told.set(key, { atMs: nowMs(), untold: 0 })
    logger.warn({ servicePort, reason, count: 1 + (before?.untold ?? 0) }, 'connection reset')
  }
}
