import { ednsUdpBytes, flag, rcode, recordType } from './constants.ts'
import { type Query, skipName } from './query.ts'

/** What someone else answered, kept as bytes so that every record type passes unchanged. */
export interface ForwardedResponse {
  readonly message: Buffer
  readonly rcode: number
  readonly isTruncated: boolean
  /** How long it may be cached; 0 for not at all. */
  readonly ttlSeconds: number
  readonly records: readonly RecordSpan[]
}

/** Where one record of a response lies. */
interface RecordSpan {
  readonly section: 'answer' | 'authority' | 'additional'
  readonly type: number
  readonly start: number
  /** Offset of the TTL, from which the data's length and the data follow. */
  readonly ttlOffset: number
  readonly end: number
}

/** How a response is passed on. */
export interface RenderOptions {
  readonly ageSeconds: number
  /** True when its time is over and nobody had a newer one. */
  readonly isStale: boolean
  readonly limitBytes: number
}

const headerBytes = 12

/** True when the message answers this query under this id: same name in any case, same type and class. */
export function answersQuery(message: Buffer, query: Pick<Query, 'question'>, id: number): boolean {
  const { question } = query
  if (message.length < headerBytes + question.length) return false
  const isResponse = (message.readUInt16BE(2) & (flag.response | 0x7800)) === flag.response
  if (message.readUInt16BE(0) !== id || !isResponse || message.readUInt16BE(4) !== 1) return false
  // Label lengths are below any letter, but the type and class behind the name may look like one.
  const nameEnd = headerBytes + question.length - 4
  if (!message.subarray(nameEnd, nameEnd + 4).equals(question.subarray(-4))) return false
  return question.every((byte, index) => {
    const other = message[headerBytes + index] ?? 0
    return byte === other || foldCase(byte) === foldCase(other)
  })
}

/** Finds the records of a response to that query; undefined when the message is damaged. */
export function parseForwarded(message: Buffer, query: Pick<Query, 'question'>): ForwardedResponse | undefined {
  const start = headerBytes + query.question.length
  const records = readRecords(message, start)
  if (records === undefined) return undefined
  const end = records.at(-1)?.end ?? start
  const code = message.readUInt16BE(2) & 0xf
  const isTruncated = (message.readUInt16BE(2) & flag.truncated) !== 0
  return {
    // What follows the last record is part of nothing.
    message: message.subarray(0, end),
    rcode: code,
    isTruncated,
    ttlSeconds: isTruncated ? 0 : cacheSecondsOf(message, code, records),
    records,
  }
}

/** RFC 8767 §4: how long a client may keep what nobody could confirm. */
const staleSeconds = 30

/** The message for a client who asked the same: its id and spelling, TTLs less the age, whole records up to the limit. */
export function renderForwarded(
  response: ForwardedResponse,
  query: Query,
  { ageSeconds, isStale, limitBytes }: RenderOptions,
): Buffer {
  const message = Buffer.from(response.message)
  message.writeUInt16BE(query.id, 0)
  message.set(query.question, headerBytes)
  for (const { type, ttlOffset } of response.records) {
    if (type === recordType.OPT) continue
    const seconds = isStale ? staleSeconds : message.readUInt32BE(ttlOffset) - ageSeconds
    message.writeUInt32BE(Math.max(0, seconds), ttlOffset)
  }
  return message.length <= limitBytes ? message : truncated(message, response, limitBytes)
}

/** The question for an upstream server, under an id that nobody can guess. */
export function renderUpstreamQuery(query: Query, id: number): Buffer {
  const message = Buffer.alloc(headerBytes + query.question.length + (query.edns === undefined ? 0 : 11))
  message.writeUInt16BE(id, 0)
  // Ours to ask for: recursion. The client's to say: authentic data wanted, checking disabled.
  message.writeUInt16BE((query.flags & 0x0030) | flag.recursionDesired, 2)
  message.writeUInt16BE(1, 4)
  message.set(query.question, headerBytes)
  if (query.edns === undefined) return message
  const opt = headerBytes + query.question.length
  message.writeUInt16BE(1, 10)
  message.writeUInt16BE(recordType.OPT, opt + 1)
  message.writeUInt16BE(ednsUdpBytes, opt + 3)
  message.writeUInt16BE(query.edns.dnssecOk ? 0x8000 : 0, opt + 7)
  return message
}

function foldCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte
}

function readRecords(message: Buffer, start: number): RecordSpan[] | undefined {
  const counts = { answer: 6, authority: 8, additional: 10 } as const
  const records: RecordSpan[] = []
  let offset = start
  for (const section of ['answer', 'authority', 'additional'] as const) {
    for (let left = message.readUInt16BE(counts[section]); left > 0; left--) {
      const record = readRecord(message, offset, section)
      if (record === undefined) return undefined
      records.push(record)
      offset = record.end
    }
  }
  return records
}

function readRecord(message: Buffer, start: number, section: RecordSpan['section']): RecordSpan | undefined {
  const fields = skipName(message, start)
  if (fields === undefined || fields + 10 > message.length) return undefined
  const end = fields + 10 + message.readUInt16BE(fields + 8)
  if (end > message.length) return undefined
  return { section, type: message.readUInt16BE(fields), start, ttlOffset: fields + 4, end }
}

/** RFC 2308: positive answers by their least TTL, negative ones by their SOA, anything else not. */
function cacheSecondsOf(message: Buffer, code: number, records: readonly RecordSpan[]): number {
  const isNegative = code === rcode.nameError || !records.some(({ section }) => section === 'answer')
  if (code !== rcode.noError && code !== rcode.nameError) return 0
  const soa = records.find(({ section, type }) => section === 'authority' && type === recordType.SOA)
  if (isNegative && soa === undefined) return 0
  const ttls = records
    .filter(({ type }) => type !== recordType.OPT)
    .map(({ ttlOffset }) => message.readUInt32BE(ttlOffset))
  if (isNegative && soa !== undefined) ttls.push(message.readUInt32BE(soa.end - 4))
  return Math.min(...ttls)
}

function truncated(message: Buffer, { records }: ForwardedResponse, limitBytes: number): Buffer {
  const opt = records.find(({ type }) => type === recordType.OPT)
  const optBytes = opt === undefined ? 0 : opt.end - opt.start
  const answers = records.filter(({ section, end }) => section === 'answer' && end + optBytes <= limitBytes)
  const end = answers.at(-1)?.end ?? records[0]?.start ?? message.length
  const head = message.subarray(0, end)
  head.writeUInt16BE(head.readUInt16BE(2) | flag.truncated, 2)
  head.writeUInt16BE(answers.length, 6)
  head.writeUInt16BE(0, 8)
  head.writeUInt16BE(opt === undefined ? 0 : 1, 10)
  return opt === undefined ? head : Buffer.concat([head, message.subarray(opt.start, opt.end)])
}
