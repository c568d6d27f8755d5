import { Duplex } from 'node:stream'
import type { Stream, StreamCloseEvent, StreamMessageEvent } from '@libp2p/interface'
import { PathLostError } from '../../net/index.ts'

/**
 * Largest piece handed to the library at once: with the muxer's and the cipher's heads it still fits one Noise
 * message (65,535 bytes), also on a connection through a relay, which has them twice.
 */
const maxPieceBytes = 65_472

/** What comes in one message of at most this length stays in one piece: for some it is a datagram. */
const maxJoinedBytes = 4096

/** How much is read ahead of the consumer before the sender is told to wait. */
const readAheadBytes = 256 * 1024

/**
 * A libp2p stream as a Node stream: `end()` closes only our direction, `destroy()` before both directions are done
 * resets it, a reset arrives as an error with the code ECONNRESET, and so does a lost connection, as a `PathLostError`.
 */
export class StreamDuplex extends Duplex {
  readonly #stream: Stream
  readonly #onSend: () => void
  /** The far side ended its direction in order; without it, an end of the stream is a loss. */
  #remoteFinished = false
  #resumeWrite: (() => void) | undefined
  /** The consumer is to read what it has before more comes. */
  #isFull = false
  #bytesRead = 0
  #isResuming = false

  /** `onSend` is called whenever bytes are sent. */
  constructor(stream: Stream, onSend: () => void = () => {}) {
    super({ allowHalfOpen: true, readableHighWaterMark: readAheadBytes, writableHighWaterMark: maxPieceBytes })
    this.#stream = stream
    this.#onSend = onSend
    // A stream may fail while it has no owner, between its handshake and its use; that must not end the process.
    this.on('error', () => {})
    this.#remoteFinished = stream.remoteWriteStatus === 'closed' && stream.status === 'open'
    stream.addEventListener('remoteCloseWrite', this.#onRemoteCloseWrite)
    stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('end', this.#onEnd)
    stream.addEventListener('drain', this.#onDrain)
    stream.addEventListener('close', this.#onClose)
    // What happened before we listened is not told again.
    if (stream.readableEnded) queueMicrotask(this.#onEnd)
    if (stream.status !== 'open' && stream.status !== 'closing') queueMicrotask(() => this.#fail(undefined))
  }

  /** What the far end and we have agreed to speak. */
  get protocol(): string {
    return this.#stream.protocol
  }

  /** What has come from the far end so far. */
  get bytesRead(): number {
    return this.#bytesRead
  }

  /** How much the far end has room for; what is longer is sent in parts. Infinite with a muxer that does not tell. */
  get roomBytes(): number {
    const room: unknown = Reflect.get(this.#stream, 'sendWindowCapacity')
    return typeof room === 'number' ? room : Number.POSITIVE_INFINITY
  }

  override _read(): void {
    this.#isFull = false
    if (this.#isResuming || this.#stream.readStatus !== 'paused') return
    this.#isResuming = true
    try {
      this.#stream.resume()
    } catch (error) {
      // The connection went while we were paused; buffered bytes were delivered before the throw.
      if (this.#stream.status === 'open') this.destroy(toError(error))
    } finally {
      this.#isResuming = false
    }
    this.#pauseWhenFull()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#onSend()
    this.#writeFrom(chunk, 0, done)
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#stream.close().then(
      () => done(),
      (error: unknown) => done(toError(error)),
    )
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const stream = this.#stream
    stream.removeEventListener('remoteCloseWrite', this.#onRemoteCloseWrite)
    stream.removeEventListener('message', this.#onMessage)
    stream.removeEventListener('end', this.#onEnd)
    stream.removeEventListener('drain', this.#onDrain)
    stream.removeEventListener('close', this.#onClose)
    const isComplete = this.readableEnded && this.writableFinished
    if (!isComplete || error !== null) stream.abort(error ?? new Error('stream destroyed'))
    done(error)
  }

  readonly #onMessage = ({ data }: StreamMessageEvent): void => {
    let hasRoom = true
    for (const bytes of piecesOf(data)) {
      this.#bytesRead += bytes.byteLength
      hasRoom = this.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength))
    }
    this.#isFull = !hasRoom
    this.#pauseWhenFull()
  }

  /** Not in the middle of `resume`, which hands over what is there first and would then undo the pause. */
  #pauseWhenFull(): void {
    if (this.#isFull && !this.#isResuming && this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  readonly #onRemoteCloseWrite = (): void => {
    this.#remoteFinished = true
  }

  /** Also told when the connection is lost, which must not look like an orderly end. */
  readonly #onEnd = (): void => {
    if (this.#remoteFinished && !this.destroyed) this.push(null)
  }

  readonly #onDrain = (): void => {
    const resume = this.#resumeWrite
    this.#resumeWrite = undefined
    resume?.()
  }

  readonly #onClose = ({ error }: StreamCloseEvent): void => {
    const isOrderly = error === undefined && this.#remoteFinished && this.#stream.writeStatus === 'closed'
    if (!isOrderly || !this.writableEnded) this.#fail(error)
  }

  #writeFrom(chunk: Buffer, offset: number, done: (error?: Error | null) => void): void {
    let position = offset
    try {
      while (position < chunk.length) {
        const piece = chunk.subarray(position, position + maxPieceBytes)
        position += piece.length
        if (!this.#stream.send(piece)) {
          this.#resumeWrite = () => this.#writeFrom(chunk, position, done)
          return
        }
      }
      done()
    } catch (error) {
      done(this.#stream.status === 'open' ? toError(error) : this.#lossOf(error))
    }
  }

  #fail(cause: Error | undefined): void {
    if (this.destroyed || (this.readableEnded && this.writableFinished)) return
    this.destroy(this.#lossOf(cause))
  }

  #lossOf(cause: unknown): Error {
    if (this.#stream.status !== 'reset') return new PathLostError('the connection to the peer was lost', { cause })
    return Object.assign(new Error('stream reset by the peer'), { code: 'ECONNRESET' })
  }
}

function piecesOf(data: StreamMessageEvent['data']): Iterable<Uint8Array> {
  if (data instanceof Uint8Array) return [data]
  return data.byteLength <= maxJoinedBytes ? [data.subarray()] : data
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
