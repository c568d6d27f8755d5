import { Socket } from 'node:net'
import type { ByteStream } from './dialer.ts'

/**
 * Ends a stream so that the far side sees a reset, not an orderly end; unsent bytes are dropped.
 * Does nothing to a stream that is already destroyed.
 */
export function resetStream(stream: ByteStream, error: Error): void {
  stream.on('error', ignoreError)
  if (stream.destroyed) return
  if (!isTcpSocket(stream)) {
    stream.destroy(error)
    return
  }
  // libuv refuses to reset while a shutdown is under way (EINVAL) and would leak the handle; that is over in a tick.
  const isShuttingDown = stream.writableEnded && stream.writableLength === 0 && !stream.writableFinished
  if (isShuttingDown) stream.once('finish', () => resetStream(stream, error))
  else stream.resetAndDestroy()
}

/** Keeps a late error of a stream whose end is already accounted for from ending the process. */
export function ignoreError(): void {}

/** Unix sockets are `Socket`s too, but know no reset. */
function isTcpSocket(stream: ByteStream): stream is Socket {
  return stream instanceof Socket && (stream.connecting || stream.localAddress !== undefined)
}
