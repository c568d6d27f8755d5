import { Socket } from 'node:net'
import { readInto } from './bulk-read.ts'
import type { ByteStream } from './dialer.ts'
import { ignoreError, resetStream } from './reset-stream.ts'

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
  const toUpstream = copy(downstream, upstream)
  const toDownstream = copy(upstream, downstream)
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

/** A direction that has carried this much reads into a buffer of its own, which halves what a byte costs. */
const bulkAfterBytes = 1 << 20
const bulkBufferBytes = 65_536
/** Bounds the memory of those buffers in the process, 8 MiB; directions beyond go on as they began. */
const bulkBudget = { buffersLeft: 128 }

/** Copies one direction with backpressure; the returned count grows as it goes. */
function copy(from: ByteStream, to: ByteStream): { readonly bytes: number } {
  const copied = { bytes: 0 }
  const onData = (chunk: Buffer) => {
    copied.bytes += chunk.length
    if (!to.write(chunk)) from.pause()
    else if (copied.bytes >= bulkAfterBytes) beginBulk(from, to, copied)
  }
  from.on('error', ignoreError)
  from.on('data', onData)
  to.on('drain', () => from.resume())
  if (from.readableEnded) to.end()
  else from.once('end', () => to.end())
  from.resume()
  return copied
}

/** From now on `from` reads into one buffer, which is written to `to` before it is read into again. */
function beginBulk(from: ByteStream, to: ByteStream, copied: { bytes: number }): void {
  // Only a socket tells by its length when the kernel has all bytes; other streams may hold on to them.
  if (bulkBudget.buffersLeft === 0 || !(to instanceof Socket)) return
  const buffer = Buffer.allocUnsafeSlow(bulkBufferBytes)
  let isWaiting = false
  const onWritten = () => {
    if (!isWaiting) return
    isWaiting = false
    from.resume()
  }
  const onRead = (bytes: number): boolean => {
    copied.bytes += bytes
    to.write(bytes === buffer.length ? buffer : buffer.subarray(0, bytes), onWritten)
    // What the kernel has not taken yet is still in the buffer: reading on would overwrite it.
    isWaiting = to.writableLength > 0
    return !isWaiting
  }
  if (!readInto(from, buffer, onRead)) return
  bulkBudget.buffersLeft -= 1
  from.once('close', () => {
    bulkBudget.buffersLeft += 1
  })
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
