import * as z from 'zod'
import { type ByteStream, DialError } from '../../net/index.ts'
import { type OpenRequest, targetTextOf } from '../flows/open-message.ts'
import { FrameError } from '../frames.ts'
import { messageTypes, readMessage, writeMessage } from './messages.ts'

/*
 *  dialler                          far end
 *    | -- CONNECT target ------------> |   dials it
 *    | <- SUCCESS target | FAILED ---- |
 *    | <======= raw bytes ===========> |   the Go system closes both directions at the first end
 */

/** The Go system's protocol for flows. */
export const proxyProtocol = '/libp2p/tunnel-proxy/1.0.0'

const requestSchema = z.object({
  protocol: z.literal('tcp'),
  nodeName: z.string().min(1).max(253),
  ip: z.ipv4(),
  port: z.int().min(1).max(65_535),
})

/** Asks a node of the Go system for a target and waits for the answer; it never says why it fails. */
export async function requestProxy(stream: ByteStream, target: OpenRequest, signal: AbortSignal): Promise<void> {
  const { protocol, nodeName, address: ip, port } = target
  if (target.kind !== undefined) {
    throw new DialError('forbidden', `Cannot reach ports of ${nodeName} itself: it runs the Go system's agent`)
  }
  writeMessage(stream, { type: messageTypes.connect, protocol, nodeName, ip, port })
  const answer = await readMessage(stream, signal)
  if (answer === undefined) throw new FrameError(`Cannot open a flow: ${nodeName} closed it without an answer`)
  if (answer.type === messageTypes.failed) {
    throw new DialError('refused', `connect ${targetTextOf(target)} on ${nodeName} failed; its agent does not say why`)
  }
}

/** Reads what a node of the Go system asks for; undefined when it went away before it asked. */
export async function readProxyRequest(stream: ByteStream, signal: AbortSignal): Promise<OpenRequest | undefined> {
  const message = await readMessage(stream, signal)
  if (message === undefined) return undefined
  const request = requestSchema.safeParse(message)
  if (message.type !== messageTypes.connect || !request.success) {
    throw new FrameError(`Cannot open a flow: bad request: ${JSON.stringify(message)}`)
  }
  const { protocol, nodeName, ip: address, port } = request.data
  return { protocol, nodeName, address, port }
}

/** Tells the dialler that the target answered; from here on the stream is the flow's. */
export function answerProxySuccess(stream: ByteStream, request: OpenRequest): void {
  const { protocol, nodeName, address: ip, port } = request
  writeMessage(stream, { type: messageTypes.success, protocol, nodeName, ip, port })
}

/** Tells the dialler that the target cannot be had, which is all its protocol can say, and ends our direction. */
export function answerProxyFailure(stream: ByteStream): void {
  writeMessage(stream, { type: messageTypes.failed })
  stream.end()
}
