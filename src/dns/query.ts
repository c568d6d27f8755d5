import { classicUdpBytes, ednsUdpBytes, flag, internetClass, rcode, recordType } from './constants.ts'

/** What a client said about EDNS. */
export interface Edns {
  readonly version: number
  readonly udpBytes: number
  readonly dnssecOk: boolean
}

/** A well-formed question. */
export interface Query {
  readonly id: number
  /** The second word of the message. */
  readonly flags: number
  /** Name, type and class as sent, so that an answer can repeat them to the letter. */
  readonly question: Buffer
  /** Lower case, without a final dot; a dot inside a label is written `\046`. */
  readonly name: string
  readonly type: number
  readonly edns: Edns | undefined
}

/** Why a message gets no answer. */
export type DropReason = 'malformed' | 'response'

/** A message that is not a question we can answer: dropped, or refused with a response code. */
export type Fault =
  | { readonly drop: DropReason }
  | { readonly rcode: number; readonly id: number; readonly flags: number; readonly question: Buffer }

/** Reads a client's message. Bytes come from anyone, so every length is checked. */
export function parseQuery(message: Buffer): Query | Fault {
  if (message.length < 12) return { drop: 'malformed' }
  const id = message.readUInt16BE(0)
  const flags = message.readUInt16BE(2)
  if ((flags & flag.response) !== 0) return { drop: 'response' }
  const refuse = (code: number, question = noQuestion): Fault => ({ rcode: code, id, flags, question })
  if ((flags & 0x7800) !== 0) return refuse(rcode.notImplemented)
  if (message.readUInt16BE(4) !== 1) return refuse(rcode.formatError)
  const name = readName(message, 12)
  if (name === undefined || name.end + 4 > message.length) return { drop: 'malformed' }
  const question = message.subarray(12, name.end + 4)
  const edns = readEdns(message, name.end + 4)
  if (edns === 'malformed') return { drop: 'malformed' }
  if (edns === 'repeated') return refuse(rcode.formatError, question)
  if (message.readUInt16BE(name.end + 2) !== internetClass) return refuse(rcode.refused, question)
  return { id, flags, question, name: name.text, type: message.readUInt16BE(name.end), edns }
}

/** The largest response that the client takes over UDP. */
export function udpLimitOf({ edns }: Query): number {
  return edns === undefined ? classicUdpBytes : Math.min(Math.max(edns.udpBytes, classicUdpBytes), ednsUdpBytes)
}

/** The question for a name in the form in which names are kept here. */
export function questionOf(name: string, type: number): Pick<Query, 'question' | 'name' | 'type'> {
  const labels = name.split('.').map((label) => Buffer.from(label.replaceAll('\\046', '.'), 'latin1'))
  const encoded = labels.flatMap((label) => [Buffer.from([label.length]), label])
  const tail = Buffer.from([0, type >> 8, type & 0xff, 0, internetClass])
  return { question: Buffer.concat([...encoded, tail]), name, type }
}

/** The offset behind a name, which may end in a compression pointer; undefined when it is cut off or invalid. */
export function skipName(message: Buffer, start: number): number | undefined {
  let offset = start
  for (;;) {
    const length = message[offset]
    if (length === undefined) return undefined
    if (length === 0) return offset + 1
    if (length >= 0xc0) return offset + 2 <= message.length ? offset + 2 : undefined
    if (length > 63) return undefined
    offset += 1 + length
  }
}

const noQuestion: Buffer = Buffer.alloc(0)

// Stands for the length of a label behind the end of the message; no label may be that long.
const beyond = 64

/** A name without compression pointers, which have no place in a question. */
function readName(message: Buffer, start: number): { readonly text: string; readonly end: number } | undefined {
  const labels: string[] = []
  let offset = start
  let length = message[offset] ?? beyond
  while (length > 0 && length <= 63) {
    const label = message.toString('latin1', offset + 1, offset + 1 + length)
    labels.push(label.includes('.') ? label.replaceAll('.', '\\046') : label)
    offset += 1 + length
    length = message[offset] ?? beyond
  }
  const end = offset + 1
  return length > 63 || end - start > 255 ? undefined : { text: lowerCaseOf(labels.join('.')), end }
}

/** Lower case for ASCII letters only; other bytes have no case in DNS. */
function lowerCaseOf(text: string): string {
  return /[A-Z]/.test(text) ? text.replace(/[A-Z]+/g, (letters) => letters.toLowerCase()) : text
}

function readEdns(message: Buffer, start: number): Edns | undefined | 'malformed' | 'repeated' {
  const records = message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10)
  let edns: Edns | undefined
  let offset = start
  for (let count = 0; count < records; count++) {
    const fields = skipName(message, offset)
    if (fields === undefined || fields + 10 > message.length) return 'malformed'
    const end = fields + 10 + message.readUInt16BE(fields + 8)
    if (end > message.length) return 'malformed'
    if (message.readUInt16BE(fields) === recordType.OPT) {
      if (edns !== undefined) return 'repeated'
      edns = {
        udpBytes: message.readUInt16BE(fields + 2),
        version: message.readUInt8(fields + 5),
        dnssecOk: (message.readUInt8(fields + 6) & 0x80) !== 0,
      }
    }
    offset = end
  }
  return edns
}
