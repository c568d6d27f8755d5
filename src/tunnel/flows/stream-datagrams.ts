import { type ByteStream, type DatagramChannel, resetStream } from '../../net/index.ts'

/** Longest datagram that its length of two bytes allows. */
const maxLength = 0xffff

/** Messages with their length in two bytes before them, over a byte stream; dropped while the stream is full. */
export function datagramsOver(stream: ByteStream): DatagramChannel {
  let rest: Buffer = Buffer.alloc(0)
  let listener: ((message: Buffer) => void) | undefined
  const { promise: closed, resolve } = Promise.withResolvers<Error | undefined>()
  stream.on('error', () => {})
  stream.on('data', (chunk: Buffer) => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
    for (let end = firstEndOf(rest); end > 0; end = firstEndOf(rest)) {
      listener?.(rest.subarray(2, end))
      rest = rest.subarray(end)
    }
  })
  stream.once('end', () => stream.end())
  stream.once('close', () => resolve(stream.errored ?? undefined))
  stream.resume()
  return {
    send(message) {
      if (stream.writableNeedDrain || stream.destroyed || message.length > maxLength) return
      const frame = Buffer.allocUnsafe(2 + message.length)
      frame.writeUInt16BE(message.length, 0)
      frame.set(message, 2)
      stream.write(frame)
    },
    onMessage(next) {
      listener = next
    },
    closed,
    [Symbol.dispose]() {
      if (stream.destroyed) return
      // In order, unless what was sent last cannot leave.
      if (stream.writableNeedDrain) resetStream(stream, new Error('closed'))
      else stream.end()
    },
  }
}

/** Where the first message of the bytes ends; 0 when it is not whole. */
function firstEndOf(bytes: Buffer): number {
  if (bytes.length < 2) return 0
  const end = 2 + bytes.readUInt16BE(0)
  return bytes.length < end ? 0 : end
}
