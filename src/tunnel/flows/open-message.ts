import * as z from 'zod'
import type { Protocol } from '../../model/index.ts'
import { type ByteStream, type DatagramChannel, DialError, type DialFailure, type DialTarget } from '../../net/index.ts'
import { FrameError, readFrame, writeFrame } from '../frames.ts'

/*
 *  dialler                     far end
 *    | -- OPEN target ----------> |   checks the target, dials it
 *    | <- OK | ERR failure text - |
 *    | <======= raw bytes ======> |   half-close and reset are the carrier's
 */

/** What a flow asks of the far end. */
export interface OpenRequest {
  readonly protocol: Protocol
  /** The node the dialler believes it talks to. */
  readonly nodeName: string
  /**
   * `node`: a port of the far node itself, which chooses the address; `reach`: the part of its agent that takes keys for
   * questions (`proxy/reach`), whatever the address; absent: an endpoint of a Service there.
   */
  readonly kind?: DialTarget['kind']
  readonly address: string
  readonly port: number
}

/** How datagrams travel on a stream. */
export interface StreamDatagrams {
  /** Takes ownership of a stream whose target has answered. */
  over(stream: ByteStream): DatagramChannel
  /** After this long without a datagram the far end no longer serves the stream; absent: it always does. */
  readonly idleMs?: number
}

/** The messages by which both ends of a stream agree on a target, before the stream is the flow's. */
export interface OpenMessages {
  /** Default: each with its length before it. */
  readonly datagrams?: StreamDatagrams
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
    protocol: z.enum(['tcp', 'udp']),
    nodeName: z.string().min(1).max(253),
    kind: z.enum(['node', 'reach']).optional(),
    address: z.union([z.ipv4(), z.ipv6()]),
    port: z.int().min(1).max(65_535),
  }),
})

const maxMessageLength = 2048

const errorSchema = z.strictObject({
  error: z.strictObject({ failure: z.enum(failures), message: z.string().max(maxMessageLength) }),
})

const answerSchema = z.union([z.strictObject({ ok: z.literal(true) }), errorSchema])

const frameLimitBytes = 8192

/** The messages of this product, as frames of JSON. */
export const openMessages: OpenMessages = { request, read, answerOk, answerError }

async function request(stream: ByteStream, target: OpenRequest, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, requestMessageOf(target), signal)
  const frame = await readFrame(stream, frameLimitBytes, signal)
  if (frame === undefined) throw new FrameError('Cannot open a flow: the far end closed it without an answer')
  const answer = answerSchema.safeParse(frame)
  if (!answer.success) throw new FrameError(`Cannot open a flow: bad answer: ${z.prettifyError(answer.error)}`)
  if ('error' in answer.data) throw new DialError(answer.data.error.failure, answer.data.error.message)
}

async function read(stream: ByteStream, signal: AbortSignal): Promise<OpenRequest | undefined> {
  const frame = await readFrame(stream, frameLimitBytes, signal)
  if (frame === undefined) return undefined
  return parseOpenRequest(frame)
}

/** The message that asks for a flow. */
export function requestMessageOf(target: OpenRequest): object {
  return { open: target }
}

/** Checks what a peer asks for; throws a `FrameError` when it cannot be. */
export function parseOpenRequest(message: unknown): OpenRequest {
  const parsed = requestSchema.safeParse(message)
  if (!parsed.success) throw new FrameError(`Cannot open a flow: bad request: ${z.prettifyError(parsed.error)}`)
  return parsed.data.open
}

/** A refusal as bytes, for carriers with messages of their own. */
export function encodeError(error: DialError): Buffer {
  return Buffer.from(JSON.stringify(errorMessageOf(error)))
}

/** The far end's refusal; throws a `FrameError` when it is none. */
export function parseError(message: unknown): DialError {
  const answer = errorSchema.safeParse(message)
  if (!answer.success) throw new FrameError(`Cannot open a flow: bad answer: ${z.prettifyError(answer.error)}`)
  return new DialError(answer.data.error.failure, answer.data.error.message)
}

async function answerOk(stream: ByteStream, _request: OpenRequest, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, { ok: true }, signal)
}

async function answerError(stream: ByteStream, error: DialError, signal: AbortSignal): Promise<void> {
  await writeFrame(stream, errorMessageOf(error), signal)
  stream.end()
}

function errorMessageOf({ failure, message }: DialError): z.input<typeof errorSchema> {
  return { error: { failure, message: message.slice(0, maxMessageLength) } }
}

/** `a.b.c.d:port`, with brackets around IPv6, for texts. */
export function targetTextOf({ address, port }: Pick<DialTarget, 'address' | 'port'>): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
