/**
 * Buffers of one size that are used again: V8 collects the whole heap for each few megabytes of new ones, which costs more
 * than all else that is done with the bytes. Who takes one owns it until it gives it back, and may let go of it instead.
 */
export class BufferPool {
  readonly bufferBytes: number
  readonly #maxFree: number
  readonly #free: Buffer[] = []
  /** Those that are out, by the memory below them, so that any view of one leads to it. */
  readonly #taken = new WeakMap<ArrayBufferLike, Buffer>()

  /** Keeps at most so many for the next who takes one. */
  constructor(bufferBytes: number, maxFree: number) {
    this.bufferBytes = bufferBytes
    this.#maxFree = maxFree
  }

  take(): Buffer {
    const buffer = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bufferBytes)
    this.#taken.set(buffer.buffer, buffer)
    return buffer
  }

  /** Takes back the buffer that these bytes are part of, which nobody looks at any more; other bytes are left alone. */
  give(bytes: Buffer): void {
    const buffer = this.#taken.get(bytes.buffer)
    if (buffer === undefined) return
    this.#taken.delete(bytes.buffer)
    if (this.#free.length < this.#maxFree) this.#free.push(buffer)
  }
}

/** A little less than the kernel sends as one piece with any usual MTU: more would leave a small rest behind each write. */
const bulkBufferBytes = 62 * 1024

/** For bytes between sockets and other streams; 2 MiB stay with the process at most. */
export const bulkBuffers: BufferPool = new BufferPool(bulkBufferBytes, 32)

/** A stream that gives buffers of `bulkBuffers` back once it has no use for what was written to it. */
export interface BufferReturner {
  readonly returnsBuffers: true
}

/** True for a stream to which buffers of the pool are worth giving. */
export function isBufferReturner(stream: object): stream is BufferReturner {
  return 'returnsBuffers' in stream && stream.returnsBuffers === true
}
