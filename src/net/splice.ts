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
export function splice(downstream: ByteStream, upstream: ByteStream, signal?: AbortSignal): Promise<SpliceResult> {
  return new Promise((resolve) => new Splice({ downstream, upstream, signal, resolve }).begin())
}

interface SpliceOptions {
  readonly downstream: ByteStream
  readonly upstream: ByteStream
  readonly signal: AbortSignal | undefined
  readonly resolve: (result: SpliceResult) => void
}

/** One splice, in callbacks: there are thousands a second, and each promise less is memory that need not be collected. */
class Splice {
  readonly #options: SpliceOptions
  #open = 2
  #fault: Fault | undefined
  #toUpstream: { readonly bytes: number } | undefined
  #toDownstream: { readonly bytes: number } | undefined

  constructor(options: SpliceOptions) {
    this.#options = options
  }

  begin(): void {
    const { downstream, upstream, signal } = this.#options
    onClosed(downstream, () => this.#onClosed(downstream, upstream, 'downstream-reset'))
    onClosed(upstream, () => this.#onClosed(upstream, downstream, 'upstream-reset'))
    this.#toUpstream = copyDirection(downstream, upstream)
    this.#toDownstream = copyDirection(upstream, downstream)
    signal?.addEventListener('abort', this, { once: true })
    if (signal?.aborted) this.handleEvent()
  }

  /** Of the signal: both sides are reset. */
  handleEvent(): void {
    const { downstream, upstream, signal } = this.#options
    this.#fault ??= { ended: 'aborted', error: signal?.reason }
    for (const stream of [downstream, upstream]) resetStream(stream, errorOf(signal?.reason))
  }

  #onClosed(stream: ByteStream, other: ByteStream, ended: SpliceEnd): void {
    if (!isComplete(stream)) {
      this.#fault ??= { ended, error: stream.errored ?? undefined }
      resetAfterTail(other, errorOf(stream.errored ?? 'the other side of the connection was lost'))
    }
    this.#open -= 1
    if (this.#open > 0) return
    this.#options.signal?.removeEventListener('abort', this)
    this.#options.resolve({
      bytesToUpstream: this.#toUpstream?.bytes ?? 0,
      bytesToDownstream: this.#toDownstream?.bytes ?? 0,
      ...(this.#fault ?? finished),
    })
  }
}

const finished = { ended: 'finished' } as const

/** Calls back once, never before it returns, when the stream is closed, whichever way. */
function onClosed(stream: ByteStream, listener: () => void): void {
  if (stream.closed) queueMicrotask(listener)
  else stream.once('close', listener)
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
