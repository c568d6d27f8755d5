import type { SignedRecord } from '../records/name-record.ts'
import type { RecordBook } from '../records/record-book.ts'
import { directoryFrameLimitBytes } from './messages.ts'

/** The records that a node has: name to sequence. */
export type KnownRecords = Readonly<Record<string, number>>

/** Room in a frame for all but that: the own record is the most of it. */
const restBytes = 16 * 1024

/** What an entry takes besides its name: quotes, colon, comma and the longest number. */
const entryBytes = 20

/**
 * What the book has, so that the other end tells the rest. As much as one frame holds: with more names than any mesh has,
 * some records are told again, and the frame is not refused.
 */
export function knownRecordsOf({ records }: Pick<RecordBook, 'records'>): KnownRecords {
  const known: [string, number][] = []
  let leftBytes = directoryFrameLimitBytes - restBytes
  for (const { record } of records) {
    leftBytes -= record.name.length + entryBytes
    if (leftBytes < 0) break
    known.push([record.name, record.sequence])
  }
  return Object.fromEntries(known)
}

/** The records of the book that the other end does not have, or only older ones. */
export function recordsBeyond({ records }: Pick<RecordBook, 'records'>, known: KnownRecords): SignedRecord[] {
  // A name may be that of something that every object has.
  const sequences = new Map(Object.entries(known))
  return records.filter(({ record }) => record.sequence > (sequences.get(record.name) ?? 0))
}
