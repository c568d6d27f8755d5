import type { SoaData, SrvData } from 'dns-packet'

/** A resource record to send; without a name it belongs to the name that was asked for. */
export type DnsRecord = { readonly name?: string; readonly ttlSeconds: number } & RecordData

/** The data of a record, by type. */
export type RecordData =
  | { readonly type: 'A' | 'AAAA' | 'CNAME' | 'NS' | 'PTR' | 'TXT'; readonly data: string }
  | { readonly type: 'SRV'; readonly data: SrvData }
  | { readonly type: 'SOA'; readonly data: SoaData }

/** The answer to a question about a name that we know all about. */
export interface Answer {
  readonly rcode: number
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
  /** Helpful records that may be left out when space is short. */
  readonly additionals: readonly DnsRecord[]
  /** True when the order of the answers carries no meaning and should differ from one response to the next. */
  readonly isShuffled: boolean
  /** The name outside the cluster at which a chain of CNAMEs leaves it; its records complete the answer. */
  readonly continuesAt?: string
}

/** An answer of these records alone. */
export function answerOf(answers: readonly DnsRecord[], rest: Partial<Answer> = {}): Answer {
  return { rcode: 0, answers, authorities: [], additionals: [], isShuffled: false, ...rest }
}

/** The same answer with its records moved by that many places. */
export function rotated(answer: Answer, places: number): Answer {
  const { answers } = answer
  const start = answers.length === 0 ? 0 : places % answers.length
  return start === 0 ? answer : { ...answer, answers: [...answers.slice(start), ...answers.slice(0, start)] }
}
