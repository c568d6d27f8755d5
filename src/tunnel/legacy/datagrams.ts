import { type ByteStream, type DatagramChannel, resetStream } from '../../net/index.ts'
import type { StreamDatagrams } from '../flows/open-message.ts'

/*
 * The Go system puts datagrams on a stream as they are, without their length: what one write sends is one frame of the
 * muxer, and what one read takes is one datagram. That works as long as a datagram is one frame, and fits its reader.
 */

/** Its readers take at most this much at once, and would make two datagrams of a longer one. */
const limitBytes = 4096

/** Its agent closes the socket of a target that was silent for 1 s, and never says so; less the delay of the way. */
const idleMs = 700

/** The muxer's head, which takes room as well. */
const headBytes = 12

/** A stream that tells how much its far end has room for; more would be sent in two parts. */
type RoomyStream = ByteStream & { readonly roomBytes?: number }

/** Datagrams as agents of the Go system read and write them. */
export const goDatagrams: StreamDatagrams = { over, idleMs }

function over(stream: RoomyStream): DatagramChannel {
  let listener: ((message: Buffer) => void) | undefined
  const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>()
  stream.on('error', () => {})
  stream.on('data', (chunk: Buffer) => listener?.(chunk))
  stream.once('end', () => stream.end())
  stream.once('close', () => resolve(stream.errored ?? undefined))
  stream.resume()
  return {
    send(message) {
      if (message.length > 0 && fits(stream, message.length)) stream.write(Buffer.from(message))
    },
    onMessage(next) {
      listener = next
    },
    closed,
    [Symbol.dispose]() {
      // Its agent reads on after an orderly end, for ever.
      resolve(undefined)
      resetStream(stream, new Error('the datagrams are over'))
    },
  }
}

/** Whether it is sent in one piece, and alone: what waits is sent together with what comes next. */
function fits(stream: RoomyStream, length: number): boolean {
  if (stream.destroyed || stream.writableEnded || stream.writableLength > 0) return false
  return length <= limitBytes && length + headBytes <= (stream.roomBytes ?? Number.POSITIVE_INFINITY)
}
