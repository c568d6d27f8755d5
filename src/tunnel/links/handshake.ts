import type { TLSSocket } from 'node:tls'
import { readBytes } from '../frames.ts'
import { batchBuffers, FrameBatch, frameType, headBytes } from './frame.ts'
import {
  agreedVersion,
  encodeHello,
  type Hello,
  HelloError,
  type LinkBinding,
  type LinkCredentials,
  maxHelloBytes,
  parseHello,
  type VersionRange,
  verifyHello,
} from './hello.ts'
import { exporterOf } from './tls.ts'

/** What shaking hands needs besides the connection. */
export interface HandshakeOptions {
  readonly credentials: LinkCredentials
  readonly versions: VersionRange
  readonly hello: Hello
  /** Why a proven peer is not welcome; undefined when it is. */
  refusalOf(hello: Hello): string | undefined
}

/** What both ends have agreed on. */
export interface AgreedLink {
  readonly hello: Hello
  readonly version: number
}

const maxErrorBytes = 1024

/**
 * The dialling end: says who it is, and reads who answers. Rejects with a `HelloError` when that is not the expected
 * peer, or when it refuses us.
 */
export async function greet(
  socket: TLSSocket,
  expectedPeerId: string,
  { credentials, versions, hello, refusalOf }: HandshakeOptions,
  signal: AbortSignal,
): Promise<AgreedLink> {
  const binding: LinkBinding = {
    exporter: exporterOf(socket),
    clientPeerId: credentials.identity.peerId,
    serverPeerId: expectedPeerId,
  }
  send(socket, frameType.hello, await encodeHello(hello, 'client', binding, credentials))
  const { type, payload } = await readFirstFrame(socket, signal)
  if (type === frameType.error) throw new HelloError(payload.toString('utf8'), { isKeyMismatch: isMismatch(payload) })
  const answer = await verifyHello(payload, 'server', binding, credentials)
  const refusal = refusalOf(answer)
  if (refusal !== undefined) throw new HelloError(refusal)
  return { hello: answer, version: agreedVersion(versions, answer.versions) }
}

/** The accepting end: reads who is there and answers, or says why not; rejects with a `HelloError` then. */
export async function welcome(socket: TLSSocket, options: HandshakeOptions, signal: AbortSignal): Promise<AgreedLink> {
  const { type, payload } = await readFirstFrame(socket, signal)
  if (type !== frameType.hello) throw new HelloError('the first frame is no HELLO')
  try {
    return await answer(socket, payload, options)
  } catch (error) {
    if (error instanceof HelloError) {
      send(socket, frameType.error, Buffer.from(error.message.slice(0, maxErrorBytes)))
      socket.end()
    }
    throw error
  }
}

async function answer(
  socket: TLSSocket,
  payload: Buffer,
  { credentials, versions, hello, refusalOf }: HandshakeOptions,
): Promise<AgreedLink> {
  const binding: LinkBinding = {
    exporter: exporterOf(socket),
    clientPeerId: parseHello(payload).peerId,
    serverPeerId: credentials.identity.peerId,
  }
  const caller = await verifyHello(payload, 'client', binding, credentials)
  const refusal = refusalOf(caller)
  if (refusal !== undefined) throw new HelloError(refusal)
  const version = agreedVersion(versions, caller.versions)
  const ours = { ...hello, kind: caller.kind }
  send(socket, frameType.hello, await encodeHello(ours, 'server', binding, credentials))
  return { hello: caller, version }
}

function send(socket: TLSSocket, type: number, payload: Buffer): void {
  const batch = new FrameBatch()
  batch.add(type, 0, payload)
  for (const part of batch.take()) socket.write(part, () => batchBuffers.give(part))
}

async function readFirstFrame(
  socket: TLSSocket,
  signal: AbortSignal,
): Promise<{ readonly type: number; readonly payload: Buffer }> {
  const head = await readBytes(socket, headBytes, signal)
  if (head === undefined) throw new Error('the other end closed the link without a HELLO')
  const word = head.readUInt32BE(4)
  const length = word & 0xffffff
  if (length === 0 || length > maxHelloBytes) throw new HelloError(`a HELLO of ${length} bytes cannot be`)
  const payload = await readBytes(socket, length, signal)
  if (payload === undefined) throw new Error('the HELLO is cut off')
  return { type: word >>> 24, payload }
}

/** The refusal that names the key is known by its text: it crosses the link as nothing else. */
function isMismatch(payload: Buffer): boolean {
  return payload.toString('utf8').includes('pre-shared key')
}
