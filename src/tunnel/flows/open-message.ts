import * as z from 'zod'
import { type ByteStream, DialError, type DialFailure, type DialTarget } from '../../net/index.ts'
import { FrameError, readFrame, writeFrame } from '../frames.ts'

/*
 *  dialler                     far end
 *    | -- OPEN target ----------> |   checks the target, dials it
 *    | <- OK | ERR failure text - |
 *    | <======= raw bytes ======> |   half-close and reset are the carrier's
 */

/** What a flow asks of the far end. */
export interface OpenRequest {
  readonly protocol: 'tcp'
  /** The node the dialler believes it talks to. */
  readonly nodeName: string
  /** `node`: a port of the far node itself, which chooses the address; absent: an endpoint of a Service there. */
  readonly kind?: 'node' | undefined
  readonly address: string
  readonly port: number
}

/** The messages by which both ends of a stream agree on a target, before the stream is the flow's. */
export interface OpenMessages {
  /** Asks for a target and waits for the answer; rejects with the far end's `DialError`. */
  request(stream: ByteStream, target: OpenRequest, signal: AbortSignal): Promise<void>
  /** Reads what a flow asks for; undefined when the dialler went away before it asked. */
  read(stream: ByteStream, signal: AbortSignal): Promise<OpenRequest | undefined>
  /** Tells the dialler that the target answered; from here on the stream is the flow's. */
  answerOk(stream: ByteStream, request: OpenRequest, signal: AbortSignal): Promise<void>
  /** Tells the dialler why not, and ends our direction. */
  answerError(stream: ByteStream, error: DialError, signal: AbortSignal): Promise<void>
}

const failures = [
  'refused',
  'unreachable',
  'forbidden',
  'unknown-target',
  'no-path',
  'overloaded',
] as const satisfies DialFailure[]

const requestSchema = z.strictObject({
  open: z.strictObject({
    protocol: z.literal('tcp'),
    nodeName: z.string().min(1).max(253),
    kind: z.literal('node').optional(),
    address: z.union([z.ipv4(), z.ipv6()]),
    port: z.int().min(1).max(65_535),
  }),
})

const answerSchema = z.union([
  z.strictObject({ ok: z.literal(true) }),
  z.strictObject({ error: z.strictObject({ failure: z.enum(failures), message: z.string().max(2048) }) }),
])

const frameLimitBytes = 8192

/** The messages of this product, as frames of JSON. */
export const openMessages: OpenMessages = { request, read, answerOk, answerError }

async function request(stream: ByteStream, target: OpenRequest, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, { open: target }, signal)
  const frame = await readFrame(stream, frameLimitBytes, signal)
  if (frame === undefined) throw new FrameError('Cannot open a flow: the far end closed it without an answer')
  const answer = answerSchema.safeParse(frame)
  if (!answer.success) throw new FrameError(`Cannot open a flow: bad answer: ${z.prettifyError(answer.error)}`)
  if ('error' in answer.data) throw new DialError(answer.data.error.failure, answer.data.error.message)
}

async function read(stream: ByteStream, signal: AbortSignal): Promise<OpenRequest | undefined> {
  const frame = await readFrame(stream, frameLimitBytes, signal)
  if (frame === undefined) return undefined
  const parsed = requestSchema.safeParse(frame)
  if (!parsed.success) throw new FrameError(`Cannot open a flow: bad request: ${z.prettifyError(parsed.error)}`)
  return parsed.data.open
}

async function answerOk(stream: ByteStream, _request: OpenRequest, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, { ok: true }, signal)
}

async function answerError(stream: ByteStream, error: DialError, signal: AbortSignal): Promise<void> {
  const message = error.message.slice(0, 2048)
  await writeFrame(stream, { error: { failure: error.failure, message } }, signal)
  stream.end()
}

/** `a.b.c.d:port`, with brackets around IPv6, for texts. */
export function targetTextOf({ address, port }: Pick<DialTarget, 'address' | 'port'>): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
