import { decode } from 'dns-packet'
import { rcode } from './constants.ts'
import { type Query, questionOf } from './query.ts'
import type { Answer, DnsRecord } from './records.ts'

/**
 * Completes an answer whose CNAMEs lead out of the cluster with what upstream says of the last name, because the stub
 * resolvers of most clients do not follow a CNAME themselves.
 */
export async function followOutside(
  query: Query,
  answer: Answer,
  resolve: (query: Query) => Promise<Buffer | undefined>,
): Promise<Answer> {
  if (answer.continuesAt === undefined) return answer
  const response = await resolve(queryFor(query, answer.continuesAt))
  if (response === undefined) return { ...answer, rcode: rcode.serverFailure }
  const code = response.readUInt16BE(2) & 0xf
  return { ...answer, rcode: code, answers: [...answer.answers, ...recordsOf(response)] }
}

/** The same question about another name; a plain one, as its answer is taken apart. */
function queryFor({ type }: Query, name: string): Query {
  return { id: 0, flags: 0, ...questionOf(name, type), edns: undefined }
}

function recordsOf(message: Buffer): readonly DnsRecord[] {
  return decodedAnswersOf(message).flatMap((record): DnsRecord[] => {
    if (record.type === 'OPT') return []
    const shared = { name: record.name, ttlSeconds: record.ttl ?? 0 }
    const { type } = record
    return type === 'A' || type === 'AAAA' || type === 'CNAME' ? [{ ...shared, type, data: record.data }] : []
  })
}

function decodedAnswersOf(message: Buffer) {
  try {
    return decode(message).answers ?? []
  } catch {
    return []
  }
}
