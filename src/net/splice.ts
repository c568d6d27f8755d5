import { copyDirection } from './copy-direction.ts'
import type { ByteStream } from './dialer.ts'
import { resetStream } from './reset-stream.ts'

/** How a splice ended: both directions in order, by a reset (or loss) of one side, or by the signal. */
export type SpliceEnd = 'finished' | 'downstream-reset' | 'upstream-reset' | 'aborted'

/** What a splice did. */
export interface SpliceResult {
  readonly bytesToUpstream: number
  readonly bytesToDownstream: number
  readonly ended: SpliceEnd
  /** Why, when it did not finish in order and the stream told. */
  readonly error?: unknown
}

interface Fault {
  readonly ended: SpliceEnd
  readonly error: unknown
}

/**
 * Copies both ways until both sides are closed; takes ownership of both streams and never rejects.
 *
 *     downstream --data--> upstream     end of one direction   -> end() of the same direction; the other goes on
 *     downstream <--data-- upstream     reset or loss of a side -> reset of the other side
 *
 * A side that ended in order before it failed has its last bytes delivered first. At most the two streams' own
 * buffers are held in memory.
 */
export async function splice(downstream: ByteStream, upstream: ByteStream, signal: AbortSignal): Promise<SpliceResult> {
  let fault: Fault | undefined
  const onClosed = (stream: ByteStream, other: ByteStream, ended: SpliceEnd) => {
    if (isComplete(stream)) return
    fault ??= { ended, error: stream.errored ?? undefined }
    resetAfterTail(other, errorOf(stream.errored ?? 'the other side of the connection was lost'))
  }
  const onAbort = () => {
    fault ??= { ended: 'aborted', error: signal.reason }
    resetStream(downstream, errorOf(signal.reason))
    resetStream(upstream, errorOf(signal.reason))
  }
  const closing = [
    closed(downstream).then(() => onClosed(downstream, upstream, 'downstream-reset')),
    closed(upstream).then(() => onClosed(upstream, downstream, 'upstream-reset')),
  ]
  const toUpstream = copyDirection(downstream, upstream)
  const toDownstream = copyDirection(upstream, downstream)
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  await Promise.all(closing)
  signal.removeEventListener('abort', onAbort)
  return {
    bytesToUpstream: toUpstream.bytes,
    bytesToDownstream: toDownstream.bytes,
    ...(fault ?? { ended: 'finished' }),
  }
}

/** Resolves when the stream is closed, whichever way. */
function closed(stream: ByteStream): Promise<void> {
  if (stream.closed) return Promise.resolve()
  return new Promise((resolve) => stream.once('close', resolve))
}

/** True when everything was read from and written to the stream. */
function isComplete(stream: ByteStream): boolean {
  return stream.readableEnded && stream.writableFinished && stream.errored === null
}

/** Resets a stream, after its last bytes when the side that sent them had ended in order. */
function resetAfterTail(stream: ByteStream, error: Error): void {
  if (stream.writableEnded && !stream.writableFinished) stream.once('finish', () => resetStream(stream, error))
  else resetStream(stream, error)
}

function errorOf(reason: unknown): Error {
  return reason instanceof Error ? reason : new Error(String(reason))
}
