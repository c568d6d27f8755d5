import { type ByteStream, resetStream } from '../../net/index.ts'
import { FrameError } from '../frames.ts'
import { messageTypes, readMessage, writeMessage } from './messages.ts'

/*
 *  finder                            found
 *    | -- CONNECT how, own name ------> |
 *    | <- SUCCESS how, own name ------- |   then the finder resets the stream
 */

/** The Go system's protocol by which two nodes tell each other their names. */
export const discoveryProtocol = '/libp2p/tunnel-discovery/1.0.0'

/** How the other node was found, in the Go system's words. */
export type FoundBy = 'MDNS' | 'DHT'

/** Tells a node of the Go system our name; gives its name. */
export async function exchangeNames(
  stream: ByteStream,
  foundBy: FoundBy,
  ownName: string,
  signal: AbortSignal,
): Promise<string> {
  writeMessage(stream, { type: messageTypes.connect, protocol: foundBy, nodeName: ownName })
  const answer = await readMessage(stream, signal).finally(() => {
    resetStream(stream, new Error('names are exchanged'))
  })
  if (answer?.type !== messageTypes.success || answer.nodeName === undefined) {
    throw new FrameError('Cannot learn the name of a peer: it gave none')
  }
  return answer.nodeName
}

/** Answers a node of the Go system that tells us its name; gives that name, or undefined when it told none. */
export async function answerNames(
  stream: ByteStream,
  ownName: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const request = await readMessage(stream, signal)
  if (request?.type !== messageTypes.connect || request.nodeName === undefined) {
    resetStream(stream, new Error('no name was told'))
    return undefined
  }
  writeMessage(stream, { type: messageTypes.success, protocol: request.protocol ?? 'MDNS', nodeName: ownName })
  stream.end()
  return request.nodeName
}
