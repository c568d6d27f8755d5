import { readInto, sharedReadBuffer } from './bulk-read.ts'
import type { ByteStream } from './dialer.ts'

/**
 * Reads a stream without a new buffer for each read, which is most of what a small message costs: the bytes are gone
 * when `onBytes` returns, so it copies what it keeps. Streams that are no sockets are read as usual. Disposal makes the
 * stream emit `data` again, for whoever takes it over.
 */
export function readBorrowed(stream: ByteStream, onBytes: (bytes: Buffer) => void): Disposable {
  const buffer = sharedReadBuffer
  let isOver = false
  const onRead = (count: number): boolean => {
    const bytes = buffer.subarray(0, count)
    if (isOver) return stream.push(Buffer.copyBytesFrom(bytes))
    onBytes(bytes)
    return true
  }
  if (!readInto(stream, { buffer, onRead })) stream.on('data', onBytes)
  return {
    [Symbol.dispose]() {
      isOver = true
      stream.off('data', onBytes)
    },
  }
}
