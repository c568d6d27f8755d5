import * as z from 'zod'
import { type ByteStream, DialError } from '../../net/index.ts'
import { type OpenMessages, type OpenRequest, targetTextOf } from '../flows/open-message.ts'
import { FrameError } from '../frames.ts'
import { goDatagrams } from './datagrams.ts'
import { messageTypes, readMessage, writeMessage } from './messages.ts'

/*
 *  dialler                          far end
 *    | -- CONNECT target ------------> |   dials it
 *    | <- SUCCESS target | FAILED ---- |
 *    | <======= raw bytes ===========> |   the Go system closes both directions at the first end;
 *                                           datagrams: see datagrams.ts
 */

/** The Go system's protocol for flows. */
export const proxyProtocol = '/libp2p/tunnel-proxy/1.0.0'

const requestSchema = z.object({
  protocol: z.enum(['tcp', 'udp']),
  nodeName: z.string().min(1).max(253),
  ip: z.ipv4(),
  port: z.int().min(1).max(65_535),
})

/** The Go system's messages. It never says why it fails, and is never told. */
export const proxyMessages: OpenMessages = { request, read, answerOk, answerError, datagrams: goDatagrams }

async function request(stream: ByteStream, target: OpenRequest, signal: AbortSignal): Promise<void> {
  const { protocol, nodeName, address: ip, port } = target
  if (target.kind !== undefined) {
    throw new DialError(
      'forbidden',
      `Cannot reach more of ${nodeName} than its endpoints: it runs the agent of the Go system`,
    )
  }
  writeMessage(stream, { type: messageTypes.connect, protocol, nodeName, ip, port })
  const answer = await readMessage(stream, signal)
  if (answer === undefined) throw new FrameError(`Cannot open a flow: ${nodeName} closed it without an answer`)
  if (answer.type === messageTypes.failed) {
    throw new DialError('refused', `connect ${targetTextOf(target)} on ${nodeName} failed; its agent does not say why`)
  }
}

async function read(stream: ByteStream, signal: AbortSignal): Promise<OpenRequest | undefined> {
  const message = await readMessage(stream, signal)
  if (message === undefined) return undefined
  const parsed = requestSchema.safeParse(message)
  if (message.type !== messageTypes.connect || !parsed.success) {
    throw new FrameError(`Cannot open a flow: bad request: ${JSON.stringify(message)}`)
  }
  const { protocol, nodeName, ip: address, port } = parsed.data
  return { protocol, nodeName, address, port }
}

async function answerOk(stream: ByteStream, { protocol, nodeName, address: ip, port }: OpenRequest): Promise<void> {
  writeMessage(stream, { type: messageTypes.success, protocol, nodeName, ip, port })
}

async function answerError(stream: ByteStream): Promise<void> {
  writeMessage(stream, { type: messageTypes.failed })
  stream.end()
}
