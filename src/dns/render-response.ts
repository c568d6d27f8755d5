import * as dnsPacket from 'dns-packet'
import { badVersion, ednsUdpBytes, flag, rcode, recordType, recursionAvailable } from './constants.ts'
import type { Query } from './query.ts'
import type { Answer, DnsRecord } from './records.ts'

// dns-packet exports its codecs of record data, but its type declarations leave them out.
declare module 'dns-packet' {
  /** The codec of one record type; its bytes begin with the two of their length. */
  export function record(type: string): {
    readonly encode: ((data: unknown, buffer: Buffer, offset: number) => Buffer) & { readonly bytes: number }
    encodingLength(data: unknown): number
  }
  export const name: {
    readonly encode: ((name: string, buffer: Buffer, offset: number) => Buffer) & { readonly bytes: number }
    encodingLength(name: string): number
  }
}

const headerBytes = 12
const optBytes = 11
// Points to the name in the question, which so also keeps the case in which it was asked.
const pointerToQuestion = 0xc000 | headerBytes

/** The message for an answer of ours, within the limit: answers that do not fit are left out and the client told so. */
export function renderAnswer(query: Query, answer: Answer, limitBytes: number): Buffer {
  const end = limitBytes - (query.edns === undefined ? 0 : optBytes)
  const start = headerBytes + query.question.length
  const answers = fitting(answer.answers, start, end)
  const authorities = fitting(answer.authorities, answers.end, answers.isWhole ? end : 0)
  const additionals = fitting(answer.additionals, authorities.end, answers.isWhole ? end : 0)
  const records = [...answers.records, ...authorities.records, ...additionals.records]
  const message = Buffer.allocUnsafe(additionals.end + (query.edns === undefined ? 0 : optBytes))
  const flags = flag.authoritative | (answers.isWhole ? 0 : flag.truncated)
  writeHeader(message, query, flags | answer.rcode)
  message.writeUInt16BE(answers.records.length, 6)
  message.writeUInt16BE(authorities.records.length, 8)
  message.writeUInt16BE(additionals.records.length + (query.edns === undefined ? 0 : 1), 10)
  let offset = start
  for (const item of records) offset = writeRecord(message, item, offset)
  if (query.edns !== undefined) writeOpt(message, offset, query.edns.dnssecOk, 0)
  return message
}

/** A response that says nothing but its code, such as SERVFAIL. */
export function renderCode(
  query: Pick<Query, 'id' | 'flags' | 'question'> & Partial<Pick<Query, 'edns'>>,
  code: number,
): Buffer {
  const start = headerBytes + query.question.length
  const message = Buffer.alloc(start + (query.edns === undefined ? 0 : optBytes))
  writeHeader(message, query, code & 0xf)
  if (query.edns === undefined) return message
  message.writeUInt16BE(1, 10)
  writeOpt(message, start, query.edns.dnssecOk, code >> 4)
  return message
}

/** The code for a query that asks for more than we speak; undefined when it does not. */
export function unsupportedCodeOf(query: Query): number | undefined {
  return query.edns !== undefined && query.edns.version > 0 ? badVersion : undefined
}

/** SERVFAIL, for names that cannot be answered now. */
export function renderFailure(query: Query): Buffer {
  return renderCode(query, rcode.serverFailure)
}

function writeHeader(message: Buffer, query: Pick<Query, 'id' | 'flags' | 'question'>, flags: number): void {
  // Opcode and "recursion desired" are the client's; opcodes other than 0 appear in refusals only.
  const repeated = query.flags & (0x7800 | flag.recursionDesired)
  message.writeUInt16BE(query.id, 0)
  message.writeUInt16BE(flag.response | recursionAvailable | repeated | flags, 2)
  message.writeUInt16BE(query.question.length === 0 ? 0 : 1, 4)
  message.fill(0, 6, headerBytes)
  message.set(query.question, headerBytes)
}

/** As many records as fit between start and end, from the first on. */
function fitting(records: readonly DnsRecord[], start: number, end: number) {
  let offset = start
  let count = 0
  for (const item of records) {
    const next = offset + lengthOf(item)
    if (next > end) break
    offset = next
    count++
  }
  const isWhole = count === records.length
  return { records: isWhole ? records : records.slice(0, count), end: offset, isWhole }
}

function lengthOf({ name, type, data }: DnsRecord): number {
  const owner = name === undefined ? 2 : dnsPacket.name.encodingLength(name)
  return owner + 8 + dnsPacket.record(type).encodingLength(data)
}

function writeRecord(message: Buffer, { name, type, ttlSeconds, data }: DnsRecord, start: number): number {
  let offset = start
  if (name === undefined) {
    offset = message.writeUInt16BE(pointerToQuestion, offset)
  } else {
    dnsPacket.name.encode(name, message, offset)
    offset += dnsPacket.name.encode.bytes
  }
  offset = message.writeUInt16BE(recordType[type], offset)
  offset = message.writeUInt16BE(1, offset)
  offset = message.writeUInt32BE(ttlSeconds, offset)
  const codec = dnsPacket.record(type)
  codec.encode(data, message, offset)
  return offset + codec.encode.bytes
}

function writeOpt(message: Buffer, start: number, dnssecOk: boolean, extendedCode: number): void {
  message.writeUInt8(0, start)
  message.writeUInt16BE(recordType.OPT, start + 1)
  message.writeUInt16BE(ednsUdpBytes, start + 3)
  message.writeUInt8(extendedCode, start + 5)
  message.writeUInt8(0, start + 6)
  message.writeUInt16BE(dnssecOk ? 0x8000 : 0, start + 7)
  message.writeUInt16BE(0, start + 9)
}
