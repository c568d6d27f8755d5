import { ignoreError } from '../../net/index.ts'
import { sleep, type TaskGroup, TimeLimit } from '../../runtime/index.ts'
import type { PeerPaths } from '../paths/peer-paths.ts'
import type { RecordBook } from '../records/record-book.ts'

/** What finding a way back to a peer needs. */
export interface WayBackOptions {
  readonly tasks: TaskGroup
  readonly book: Pick<RecordBook, 'nameOf'>
  readonly paths: Pick<PeerPaths, 'carrierTo'>
  /** Flows wait for a link to the peer. */
  isStranded(peerId: string): boolean
  /** Why no relay will reach the node; undefined as long as one may. */
  finalRefusalOf(nodeName: string): string | undefined
  /** There will be none: ends the flows that wait. */
  giveUp(peerId: string, reason: string): void
}

/** How long one attempt may take, and how long is waited after it. */
const attemptMs = 5000
const pauseMs = 300

/**
 * Gives what seeks a path to a peer as flows do, until there is a link again or nobody waits for it; gives up once no path is
 * found and all relays have said that they do not join the two.
 */
export function createWayBack(options: WayBackOptions): (peerId: string) => void {
  const { tasks, isStranded } = options
  const returning = new Set<string>()
  return (peerId) => {
    if (returning.has(peerId) || tasks.signal.aborted) return
    returning.add(peerId)
    tasks.run('way back to a peer', async (stopping) => {
      try {
        while (isStranded(peerId)) {
          await attempt(options, peerId, stopping)
          await sleep(pauseMs, stopping)
        }
      } finally {
        returning.delete(peerId)
      }
    })
  }
}

async function attempt(
  { book, paths, finalRefusalOf, isStranded, giveUp }: WayBackOptions,
  peerId: string,
  stopping: AbortSignal,
): Promise<void> {
  const nodeName = book.nameOf(peerId)
  if (nodeName === undefined) return
  using limit = new TimeLimit(attemptMs, stopping)
  const carrier = await paths.carrierTo(nodeName, limit.signal).catch(ignoreError)
  const reason = carrier ? undefined : finalRefusalOf(nodeName)
  if (reason !== undefined && isStranded(peerId)) giveUp(peerId, reason)
}
