import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { ipv4ToNumber, numberToIpv4 } from '../../model/index.ts'

/**
 * How a node finds out who is behind an address that repeats elsewhere. The key was agreed on through the tunnel with
 * the very node that should answer; nobody else can.
 *
 *     question   "EDGEMSHQ" | key id 8 | nonce 16 | address 4 | HMAC-SHA256 of the bytes before, its first 16
 *     answer     "EDGEMSHA" | the same, with a proof of its own
 */
export interface Agreement {
  readonly id: Buffer
  readonly key: Buffer
}

/** A question whose proof was right. */
export interface Question {
  readonly agreement: Agreement
  readonly nonce: Buffer
  /** Where the question was sent. */
  readonly address: string
}

/** UDP port of endpoints at which questions arrive; they get as far as the endpoint's node, never to the endpoint. */
export const questionPort = 20006

const marks = { question: 'EDGEMSHQ', answer: 'EDGEMSHA' } as const
const proofBytes = 16
const lengths = { mark: 8, id: 8, nonce: 16, address: 4 }
const bodyBytes = 36

/** A key that nobody else has. */
export function newAgreement(): Agreement {
  return { id: randomBytes(lengths.id), key: randomBytes(32) }
}

/** A nonce that was never used. */
export function newNonce(): Buffer {
  return randomBytes(lengths.nonce)
}

/** The datagram that asks at this IPv4 address. */
export function encodeQuestion({ agreement, nonce, address }: Question): Buffer {
  return sealed(marks.question, { agreement, nonce, address })
}

/** The datagram that answers a question; as long as the question, so that nobody gains by asking in another's name. */
export function encodeAnswer(question: Question): Buffer {
  return sealed(marks.answer, question)
}

/** Reads a question; undefined for anything else, also when its key is not known (by hexadecimal id). */
export function readQuestion(datagram: Buffer, keyOf: (id: string) => Agreement | undefined): Question | undefined {
  if (datagram.length !== bodyBytes + proofBytes || datagram.toString('latin1', 0, lengths.mark) !== marks.question) {
    return undefined
  }
  const id = datagram.subarray(lengths.mark, lengths.mark + lengths.id)
  const agreement = keyOf(id.toString('hex'))
  if (agreement === undefined) return undefined
  const nonce = Buffer.from(datagram.subarray(16, 32))
  const question = { agreement, nonce, address: numberToIpv4(datagram.readUInt32BE(32)) }
  return timingSafeEqual(datagram, encodeQuestion(question)) ? question : undefined
}

/** Whether the datagram answers this question. */
export function isAnswerTo(question: Question, datagram: Buffer): boolean {
  const right = encodeAnswer(question)
  return datagram.length === right.length && timingSafeEqual(datagram, right)
}

function sealed(mark: string, { agreement, nonce, address }: Question): Buffer {
  const place = Buffer.alloc(lengths.address)
  place.writeUInt32BE(ipv4ToNumber(address) ?? 0)
  const body = Buffer.concat([Buffer.from(mark, 'latin1'), agreement.id, nonce, place])
  const proof = createHmac('sha256', agreement.key).update(body).digest().subarray(0, proofBytes)
  return Buffer.concat([body, proof])
}
