import { once } from 'node:events'
import { type ByteStream, ignoreError } from '../net/index.ts'

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
  using news = watchNews(stream, signal)
  const head = await readExactly(stream, headBytes, news, signal)
  if (head === undefined) return undefined
  const length = head.readUInt32BE()
  if (length > limitBytes) throw new FrameError(`Cannot read a frame of ${length} bytes: the limit is ${limitBytes}`)
  const body = length === 0 ? Buffer.alloc(0) : await readExactly(stream, length, news, signal)
  if (body === undefined) throw new FrameError('Cannot read a frame: the stream ended inside it')
  return parseJson(body)
}

/**
 * Reads exactly this many bytes and leaves the rest in the stream; undefined when the far end ended in order before the
 * first. Rejects as `readFrame` does.
 */
export async function readBytes(stream: ByteStream, size: number, signal: AbortSignal): Promise<Buffer | undefined> {
  using news = watchNews(stream, signal)
  return await readExactly(stream, size, news, signal)
}

/** Writes one frame and waits while the stream is full. */
export async function writeFrame(stream: ByteStream, message: unknown, signal: AbortSignal): Promise<void> {
  if (!stream.write(encodeFrame(message))) await once(stream, 'drain', { signal })
}

/**
 * Asks one question on a stream of its own and gives the answer as `readFrame` does; the stream is ended then, and reset
 * when there is none: a late answer would find nobody, and its stream would stay for as long as the connection.
 */
export async function askOnce(
  stream: ByteStream,
  question: unknown,
  limitBytes: number,
  signal: AbortSignal,
): Promise<unknown> {
  stream.on('error', ignoreError)
  try {
    await writeFrame(stream, question, signal)
    const answer = await readFrame(stream, limitBytes, signal)
    stream.end()
    stream.resume()
    return answer
  } catch (error) {
    stream.destroy()
    throw error
  }
}

/**
 * The other side of `askOnce`: gives the answer that `answerTo` makes of the question, and ends the stream; a stream on
 * which that fails is reset. Rejects with the reason.
 */
export async function answerOnce(
  stream: ByteStream,
  answerTo: (question: unknown) => unknown,
  limitBytes: number,
  signal: AbortSignal,
): Promise<void> {
  stream.on('error', ignoreError)
  try {
    const question = await readFrame(stream, limitBytes, signal)
    await writeFrame(stream, await answerTo(question), signal)
    stream.end()
    stream.resume()
  } catch (error) {
    stream.destroy()
    throw error
  }
}

async function readExactly(
  stream: ByteStream,
  size: number,
  news: News,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  for (;;) {
    signal.throwIfAborted()
    if (stream.errored) throw stream.errored
    const bytes: unknown = stream.read(size)
    if (Buffer.isBuffer(bytes) && bytes.length === size) return bytes
    if (bytes !== null) throw new FrameError('Cannot read a frame: the stream ended inside it')
    if (stream.readableEnded) return undefined
    if (stream.destroyed) throw new FrameError('Cannot read a frame: the stream is closed')
    await news.next()
  }
}

/** Tells that something happened to a stream since the last time. */
interface News extends Disposable {
  next(): Promise<void>
}

/**
 * Listens as long as a frame is being read: a listener that is added while part of it waits in the stream is called
 * for that part at once, so adding one per wait would spin.
 */
function watchNews(stream: ByteStream, signal: AbortSignal): News {
  let happened = false
  let wake: (() => void) | undefined
  const onNews = () => {
    happened = true
    wake?.()
  }
  const events = ['readable', 'end', 'close', 'error']
  for (const event of events) stream.on(event, onNews)
  signal.addEventListener('abort', onNews)
  return {
    async next() {
      if (!happened)
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      happened = false
    },
    [Symbol.dispose]() {
      for (const event of events) stream.off(event, onNews)
      signal.removeEventListener('abort', onNews)
    },
  }
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (error) {
    throw new FrameError('Cannot read a frame: it is not JSON', { cause: error })
  }
}
