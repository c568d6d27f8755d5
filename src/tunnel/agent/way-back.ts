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
}

/** How long one attempt may take, and how long is waited after it. */
const attemptMs = 5000
const pauseMs = 300

/** Gives what seeks a path to a peer as flows do, until there is a link again or nobody waits for it. */
export function createWayBack({ tasks, book, paths, isStranded }: WayBackOptions): (peerId: string) => void {
  const returning = new Set<string>()
  return (peerId) => {
    if (returning.has(peerId) || tasks.signal.aborted) return
    returning.add(peerId)
    tasks.run('way back to a peer', async (stopping) => {
      try {
        while (isStranded(peerId)) {
          const nodeName = book.nameOf(peerId)
          using limit = new TimeLimit(attemptMs, stopping)
          if (nodeName !== undefined) await paths.carrierTo(nodeName, limit.signal).catch(ignoreError)
          await sleep(pauseMs, stopping)
        }
      } finally {
        returning.delete(peerId)
      }
    })
  }
}
