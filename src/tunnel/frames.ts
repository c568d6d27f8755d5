import { once } from 'node:events'
import type { ByteStream } from '../net/index.ts'

/** The far end broke the framing, or ended in the middle of a frame. */
export class FrameError extends Error {
  override readonly name = 'FrameError'
  readonly code = 'EDGEMESH_FRAME'
}

const headBytes = 4

/** A message as a frame: its JSON text after its length as an unsigned 32-bit number. */
export function encodeFrame(message: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(message), 'utf8')
  const head = Buffer.allocUnsafe(headBytes)
  head.writeUInt32BE(body.length)
  return Buffer.concat([head, body])
}

/**
 * Reads one frame and leaves every byte after it in the stream, for whoever reads next. Resolves with undefined when
 * the far end ended in order before the frame; rejects with a `FrameError`, the stream's error, or the signal's reason.
 */
export async function readFrame(stream: ByteStream, limitBytes: number, signal: AbortSignal): Promise<unknown> {
  const head = await readExactly(stream, headBytes, signal)
  if (head === undefined) return undefined
  const length = head.readUInt32BE()
  if (length > limitBytes) throw new FrameError(`Cannot read a frame of ${length} bytes: the limit is ${limitBytes}`)
  const body = length === 0 ? Buffer.alloc(0) : await readExactly(stream, length, signal)
  if (body === undefined) throw new FrameError('Cannot read a frame: the stream ended inside it')
  return parseJson(body)
}

/** Writes one frame and waits while the stream is full. */
export async function writeFrame(stream: ByteStream, message: unknown, signal: AbortSignal): Promise<void> {
  if (!stream.write(encodeFrame(message))) await once(stream, 'drain', { signal })
}

async function readExactly(stream: ByteStream, size: number, signal: AbortSignal): Promise<Buffer | undefined> {
  for (;;) {
    signal.throwIfAborted()
    if (stream.errored) throw stream.errored
    const bytes: unknown = stream.read(size)
    if (Buffer.isBuffer(bytes) && bytes.length === size) return bytes
    if (bytes !== null) throw new FrameError('Cannot read a frame: the stream ended inside it')
    if (stream.readableEnded) return undefined
    if (stream.destroyed) throw new FrameError('Cannot read a frame: the stream is closed')
    await untilReadable(stream, signal)
  }
}

/** Resolves at the next data, end, or close; the reader then finds out which. */
function untilReadable(stream: ByteStream, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const settle = () => {
      for (const event of ['readable', 'end', 'close', 'error']) stream.off(event, settle)
      signal.removeEventListener('abort', settle)
      resolve()
    }
    for (const event of ['readable', 'end', 'close', 'error']) stream.on(event, settle)
    signal.addEventListener('abort', settle, { once: true })
  })
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw new FrameError('Cannot read a frame: it is not JSON', { cause: error })
  }
}
