import type { LinkTable } from '../links/link-table.ts'

/** Links to peers, and how to get some. */
export interface LinkSource {
  readonly table: Pick<LinkTable, 'peer'>
  /** Begins to make links to the peer, unless there are enough; nothing waits for it. */
  want(peerId: string): void
  /** Resolves when the link that is being made stands or fails, at once when none is, and in any case within a moment. */
  attemptSettled(peerId: string, signal: AbortSignal): Promise<void>
  /** Why no better path was found last time. */
  lastErrorOf(peerId: string): string | undefined
}
