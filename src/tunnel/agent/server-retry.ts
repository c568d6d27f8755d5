import type { BackoffPolicy } from '../../runtime/index.ts'

/** What decides how soon a server is dialled again. */
export interface LostServer {
  /** Since it was connected last; absent when that has never been. */
  readonly lostForMs?: number | undefined
  /** Nodes that are to meet it again together with this one. */
  readonly nodes: number
  /** Another port of the same host is connected. */
  readonly isOtherPort: boolean
}

/** A server that restarts is away for a second or two; after this long it is something else. */
const restartMs = 30_000
const restartRetryMs = 400
const laterRetryMs = 1000

/** A server takes some hundred agents a second: together they ask little more often than that. */
const perNodeMs = 10
/** So few may come in the same moment. */
const freeNodes = 10
const longestSpreadMs = 10_000
const firstMs = 300

/** Another port of a server that stands is often one that its site does not let through. */
const otherPort: BackoffPolicy = { firstMs, maxMs: 30_000, jitter: 0.5 }

/** Fifty agents meet a server within half a second of its return, and a thousand do not all come in the same one. */
export function serverRetryPolicy({ lostForMs, nodes, isOtherPort }: LostServer): BackoffPolicy {
  if (isOtherPort) return otherPort
  const mayRestart = lostForMs !== undefined && lostForMs < restartMs
  const spreadMs = Math.min(longestSpreadMs, Math.max(0, nodes - freeNodes) * perNodeMs)
  const maxMs = Math.max(mayRestart ? restartRetryMs : laterRetryMs, spreadMs)
  return { firstMs: Math.max(firstMs, spreadMs), maxMs, jitter: 0.75 }
}
