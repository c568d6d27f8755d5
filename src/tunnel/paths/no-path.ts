import { DialError } from '../../net/index.ts'
import type { RecordBook } from '../records/record-book.ts'
import type { PathPolicy } from './path-policy.ts'
import { type RelayChoice, type RelayLink, serversText } from './relay-choice.ts'

/** What is known where no path is found. */
export interface NoPathFacts {
  readonly book: Pick<RecordBook, 'isRevokedName' | 'recordOf'>
  readonly links: readonly RelayLink[]
  /** Whoever is no part of the mesh may still be a node of the Go system. */
  readonly strangers?: object | undefined
  readonly policy: Pick<PathPolicy, 'allows'>
  readonly relays: Pick<RelayChoice, 'whyNot'>
  readonly lastError: string | undefined
}

/** Says what is missing, nearest cause first. */
export function noPathTo(
  nodeName: string,
  { book, links, strangers, policy, relays, lastError }: NoPathFacts,
): DialError {
  if (book.isRevokedName(nodeName)) return new DialError('forbidden', `Cannot reach ${nodeName}: it is revoked here`)
  const isServed = links.some(({ isUp }) => isUp)
  const servers = isServed ? '' : `; ${serversText(links)}`
  if (book.recordOf(nodeName) === undefined && strangers === undefined) {
    return new DialError('no-path', `Cannot reach ${nodeName}: no node of this name has joined the mesh${servers}`)
  }
  const last = lastError === undefined ? '' : `; last attempt: ${lastError}`
  const relayed = policy.allows('relayed')
    ? relays.whyNot(nodeName)
    : 'there is no direct path, and paths.directOnly forbids others'
  const what = isServed ? relayed : 'it is no neighbour that answers'
  return new DialError('no-path', `Cannot reach ${nodeName}: ${what}${servers}${last}`)
}
