import type { Socket } from 'node:net'
import { bulkBuffers } from './buffer-pool.ts'
import type { Borrower } from './lender.ts'

/** Shorter pieces are messages, which wait for nothing. */
const gatheredBytes = 4096

/**
 * Writes lent bytes to a socket: what comes in one turn of the event loop as few writes, from buffers that are used again.
 * While the kernel takes no more, buffers are filled before they wait in line, so that they hold what they cost.
 */
export class GatheredWriter implements Borrower {
  readonly #to: Socket
  readonly #onPassed: () => void
  #buffer: Buffer | undefined
  #fill = 0
  #isScheduled = false

  /** Tells `onPassed` when the kernel has taken some. */
  constructor(to: Socket, onPassed: () => void) {
    this.#to = to
    this.#onPassed = onPassed
  }

  get heldBytes(): number {
    return this.#fill + this.#to.writableLength
  }

  onBytes(bytes: Buffer): void {
    if (this.#fill === 0 && bytes.length < gatheredBytes) {
      this.#to.write(Buffer.from(bytes), this.#onWritten)
      return
    }
    for (let at = 0; at < bytes.length; ) at += this.#append(bytes, at)
    if (this.#fill > 0) this.#schedule()
  }

  /** Writes what is left now, before the end. */
  readonly flush = (): void => {
    const buffer = this.#buffer
    if (buffer === undefined || this.#fill === 0) return
    const bytes = buffer.subarray(0, this.#fill)
    this.#buffer = undefined
    this.#fill = 0
    this.#to.write(bytes, (error) => {
      // A socket that failed may hold on to it.
      if (error === undefined || error === null) bulkBuffers.give(bytes)
      this.#onWritten()
    })
  }

  #append(bytes: Buffer, at: number): number {
    this.#buffer ??= bulkBuffers.take()
    const copied = bytes.copy(this.#buffer, this.#fill, at)
    this.#fill += copied
    if (this.#fill === this.#buffer.length) this.flush()
    return copied
  }

  #schedule(): void {
    if (this.#isScheduled) return
    this.#isScheduled = true
    setImmediate(this.#onTurnOver)
  }

  readonly #onTurnOver = (): void => {
    this.#isScheduled = false
    if (this.#to.writableLength === 0) this.flush()
  }

  readonly #onWritten = (): void => {
    if (this.#to.writableLength === 0) this.flush()
    this.#onPassed()
  }
}
