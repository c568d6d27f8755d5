import * as z from 'zod'
import type { ByteStream } from '../../net/index.ts'
import { type Agreement, newAgreement } from './question.ts'

/*
 *  who asks                        who answers, over a flow of the tunnel
 *    | -- {"id", "key"}, end ------> |
 *    | <- {"seconds"}, end --------- |   for so long
 */

/** How long a key holds: as long as peers take, because a new one costs more bytes than many questions. */
export const termsSeconds = 86_400

const longestBytes = 512
const termsSchema = z.object({ id: z.hex().length(16), key: z.hex().length(64) })
const replySchema = z.object({ seconds: z.int().min(1).max(86_400) })

/** A key that the other end of the flow has taken; `forMs` from now on. */
export interface KeptAgreement extends Agreement {
  readonly forMs: number
}

/** Brings the node at the other end of a flow a new key; rejects when it does not take it. */
export async function proposeTerms(stream: ByteStream, signal: AbortSignal): Promise<KeptAgreement> {
  const agreement = newAgreement()
  try {
    stream.end(JSON.stringify({ id: agreement.id.toString('hex'), key: agreement.key.toString('hex') }))
    const reply = replySchema.safeParse(parsed(await readAll(stream, signal)))
    if (!reply.success) throw new Error('the node takes no key')
    return { ...agreement, forMs: reply.data.seconds * 1_000 }
  } finally {
    stream.destroy()
  }
}

/** Reads the key that a peer brings; rejects when it is none. */
export async function readTerms(stream: ByteStream, signal: AbortSignal): Promise<Agreement> {
  const { id, key } = termsSchema.parse(parsed(await readAll(stream, signal)))
  return { id: Buffer.from(id, 'hex'), key: Buffer.from(key, 'hex') }
}

/** Tells the peer that its key is known here, and ends the flow. */
export function writeReply(stream: ByteStream): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.once('error', reject)
    stream.end(JSON.stringify({ seconds: termsSeconds }), () => resolve())
  })
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** All that comes until the other side ends. */
function readAll(stream: ByteStream, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = []
  let length = 0
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const onAbort = () => reject(signal.reason)
  const onData = (chunk: Buffer) => {
    chunks.push(chunk)
    length += chunk.length
    if (length > longestBytes) reject(new Error('more was said than is needed'))
  }
  stream.on('data', onData)
  stream.once('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
  // Stays for the stream's life: an error without a listener would end the process.
  stream.on('error', reject)
  stream.once('close', () => reject(new Error('the flow was closed')))
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  return promise.finally(() => {
    signal.removeEventListener('abort', onAbort)
    stream.off('data', onData)
  })
}
