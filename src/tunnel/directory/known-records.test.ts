import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeFrame } from '../frames.ts'
import { maxEncodedRecordLength, type SignedRecord } from '../records/name-record.ts'
import { knownRecordsOf, recordsBeyond } from './known-records.ts'
import { directoryFrameLimitBytes, parseAgentMessage } from './messages.ts'

function recordOf(name: string, sequence: number): SignedRecord {
  return {
    record: { name, peerId: 'x', role: 'agent', sequence, addresses: [], time: 1 },
    encoded: `${name} ${sequence}`,
  }
}

const names = (records: readonly SignedRecord[]) => records.map(({ record }) => record.name)

test('what is known is told with its sequence, and what is newer or new is beyond it', () => {
  const known = knownRecordsOf({ records: [recordOf('edge-a', 5), recordOf('edge-b', 7)] })
  assert.deepEqual(known, { 'edge-a': 5, 'edge-b': 7 })
  const records = [recordOf('edge-a', 5), recordOf('edge-b', 8), recordOf('edge-c', 1)]
  assert.deepEqual(names(recordsBeyond({ records }, known)), ['edge-b', 'edge-c'])
})

test('a node may have a name that every object knows', () => {
  assert.deepEqual(names(recordsBeyond({ records: [recordOf('constructor', 1)] }, {})), ['constructor'])
})

test('a book that is full of the longest names still fits one frame, with the own record', () => {
  const records = Array.from({ length: 20_000 }, (_, index) =>
    recordOf(String(index).padStart(253, 'x'), Number.MAX_SAFE_INTEGER),
  )
  const known = knownRecordsOf({ records })
  const hello = { type: 'hello', record: 'r'.repeat(maxEncodedRecordLength), known }
  assert.ok(encodeFrame(hello).length <= directoryFrameLimitBytes)
  assert.ok(Object.keys(known).length > 3000)
  assert.equal(parseAgentMessage(JSON.parse(JSON.stringify(hello))).type, 'hello')
})
