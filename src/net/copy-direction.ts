import { Socket } from 'node:net'
import { bulkBuffers, isBufferReturner } from './buffer-pool.ts'
import { type BufferReader, readInto, sharedReadBuffer } from './bulk-read.ts'
import type { ByteStream } from './dialer.ts'
import { GatheredWriter } from './gathered-writer.ts'
import { isLender, type Lender } from './lender.ts'
import { ignoreError } from './reset-stream.ts'

const bufferBytes = sharedReadBuffer.length
/** A direction that has carried this much, and reads much at once, gets a buffer of its own, which saves the copy. */
const bulkAfterBytes = 1 << 20
const largeReadBytes = 8_192
/**
 * Measured: half of what 64 KiB cost for each byte, which is a little more than the kernel sends as one piece, so that
 * each write would leave a small rest.
 */
const ownBufferBytes = 32_768
/** A read of at least this fills enough of a buffer of the pool. */
const pooledReadBytes = bulkBuffers.bufferBytes / 2
/** Bounds the memory of those buffers in the process, 4 MiB; directions beyond go on as they began. */
const bulkBudget = { buffersLeft: 128 }

/** Copies one direction with backpressure, and ends `to` when `from` has ended; the count grows as it goes. */
export function copyDirection(from: ByteStream, to: ByteStream): { readonly bytes: number } {
  const direction = new Direction(from, to)
  from.on('error', ignoreError)
  from.on('data', (chunk: Buffer) => direction.onData(chunk))
  to.on('drain', () => from.resume())
  if (from.readableEnded) to.end()
  else from.once('end', () => direction.onEnd())
  direction.takeOver()
  from.resume()
  return direction
}

/**
 *     as Node offers it --nothing unread--> shared buffer, copied <--full reads--> a new buffer for each
 *                                                  |  1 MiB carried
 *                                                  v
 *                                           a buffer of its own, read again when it is written
 *
 * To streams that give buffers back, large reads go in buffers of the pool instead; streams that lend theirs are written
 * from such buffers.
 */
class Direction implements BufferReader {
  readonly #from: ByteStream
  readonly #to: ByteStream
  #bytes = 0
  #buffer: Buffer = sharedReadBuffer
  #own: Buffer | undefined
  #isTakenOver = false
  #isWaiting = false
  #writer: GatheredWriter | undefined

  constructor(from: ByteStream, to: ByteStream) {
    this.#from = from
    this.#to = to
  }

  get bytes(): number {
    return this.#bytes
  }

  get buffer(): Buffer {
    return this.#buffer
  }

  onData(chunk: Buffer): void {
    this.#bytes += chunk.length
    if (!this.#to.write(chunk)) this.#from.pause()
    this.takeOver()
  }

  /** Reads by buffers of our own, where that can be, as soon as nothing is left that was read otherwise. */
  takeOver(): void {
    if (this.#isTakenOver || this.#from.readableLength > 0) return
    this.#isTakenOver = true
    if (isLender(this.#from) && this.#to instanceof Socket) this.#borrow(this.#from, this.#to)
    else readInto(this.#from, this)
  }

  onEnd(): void {
    this.#writer?.flush()
    this.#to.end()
  }

  onRead(bytes: number): boolean {
    this.#bytes += bytes
    if (this.#own !== undefined) return this.#writeOwn(this.#own, bytes)
    const mayGoOn = this.#to.write(this.#takeOut(bytes))
    this.#buffer = this.#bufferAfter(bytes)
    return mayGoOn
  }

  #borrow(from: Lender, to: Socket): void {
    const writer = new GatheredWriter(to, () => onPassed())
    this.#writer = writer
    const onPassed = from.lendTo({
      onBytes: (bytes) => {
        this.#bytes += bytes.length
        writer.onBytes(bytes)
      },
      get heldBytes() {
        return writer.heldBytes
      },
    })
  }

  /** The bytes of the last read, for good. */
  #takeOut(bytes: number): Buffer {
    const buffer = this.#buffer
    if (buffer !== sharedReadBuffer && bytes >= pooledReadBytes) return buffer.subarray(0, bytes)
    const copy = Buffer.allocUnsafe(bytes)
    buffer.copy(copy, 0, 0, bytes)
    if (buffer !== sharedReadBuffer) bulkBuffers.give(buffer)
    return copy
  }

  #bufferAfter(bytes: number): Buffer {
    // Only a socket tells by its length when the kernel has all bytes; other streams may hold on to them.
    const isBulk = bytes >= largeReadBytes && this.#bytes >= bulkAfterBytes && this.#to instanceof Socket
    if (isBulk && bulkBudget.buffersLeft > 0) return this.#takeOwn()
    if (bytes >= pooledReadBytes && isBufferReturner(this.#to)) return bulkBuffers.take()
    // A full read says that there is more, which is not worth copying.
    return bytes === bufferBytes ? Buffer.allocUnsafeSlow(bufferBytes) : sharedReadBuffer
  }

  #takeOwn(): Buffer {
    this.#own = Buffer.allocUnsafeSlow(ownBufferBytes)
    bulkBudget.buffersLeft -= 1
    this.#from.once('close', () => {
      bulkBudget.buffersLeft += 1
    })
    return this.#own
  }

  #writeOwn(buffer: Buffer, bytes: number): boolean {
    this.#to.write(bytes === buffer.length ? buffer : buffer.subarray(0, bytes), this.#onOwnWritten)
    // What the kernel has not taken yet is still in the buffer: reading on would overwrite it.
    this.#isWaiting = this.#to.writableLength > 0
    return !this.#isWaiting
  }

  readonly #onOwnWritten = (): void => {
    if (!this.#isWaiting || this.#to.writableLength > 0) return
    this.#isWaiting = false
    this.#from.resume()
  }
}
