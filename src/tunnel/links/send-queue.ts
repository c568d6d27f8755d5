import { bulkBuffers } from '../../net/index.ts'
import { type FrameBatch, frameType, maxPayloadBytes } from './frame.ts'
import type { ReplayBuffer } from './replay-buffer.ts'

/**
 * What one flow has to send: what has to be sent again after a lost link, then what its writer gave. Frames are copied into
 * the batch; the writer's buffers are kept for a resume, if there can be one, and then given back.
 */
export class SendQueue {
  readonly #id: number
  readonly #replay: ReplayBuffer | undefined
  #again: readonly Buffer[] = []
  #chunks: Buffer[] = []
  #chunkAt = 0
  #written: (() => void) | undefined
  #sent = 0

  constructor(id: number, replay: ReplayBuffer | undefined) {
    this.#id = id
    this.#replay = replay
  }

  /** Bytes of the writer's that went out so far, each counted once. */
  get sent(): number {
    return this.#sent
  }

  /** The offset of the next byte that goes out. */
  get offset(): number {
    return this.#again.reduce((left, { length }) => left - length, this.#sent)
  }

  /** Nothing of the writer's waits. */
  get isEmpty(): boolean {
    return this.#chunks.length === 0
  }

  get hasRepeats(): boolean {
    return this.#again.length > 0
  }

  /** Takes what the writer gives; `done` is called once the last of it is on its way. */
  put(chunks: Buffer[], done: () => void): void {
    this.#chunks = chunks
    this.#chunkAt = 0
    this.#written = done
  }

  /** These bytes before all others. */
  repeat(again: readonly Buffer[]): void {
    this.#again = again
  }

  /** Lets go of what the writer gave. */
  clear(): void {
    this.#chunks = []
  }

  /** Adds frames with at most so many bytes, and nothing new beyond the limit; gives the room that is left. */
  fill(batch: FrameBatch, room: number, limit: number): number {
    let left = this.#fillAgain(batch, room)
    while (left > 0 && this.#sent < limit) {
      const chunk = this.#chunks[0]
      if (chunk === undefined) break
      const size = Math.min(chunk.length - this.#chunkAt, left, limit - this.#sent, maxPayloadBytes)
      const piece = size === chunk.length ? chunk : chunk.subarray(this.#chunkAt, this.#chunkAt + size)
      batch.add(frameType.data, this.#id, piece)
      this.#sent += size
      left -= size
      this.#advance(chunk, piece)
    }
    return left
  }

  /** Lets the writer go on once the last chunk is on its way; it may bring more at once. */
  #advance(chunk: Buffer, piece: Buffer): void {
    this.#chunkAt += piece.length
    const isLast = this.#chunkAt === chunk.length
    if (this.#replay !== undefined) this.#replay.add(piece, isLast)
    else if (isLast) bulkBuffers.give(chunk)
    if (!isLast) return
    this.#chunks.shift()
    this.#chunkAt = 0
    if (this.#chunks.length > 0) return
    const written = this.#written
    this.#written = undefined
    written?.()
  }

  #fillAgain(batch: FrameBatch, room: number): number {
    let left = room
    while (left > 0) {
      const [piece, ...rest] = this.#again
      if (piece === undefined) return left
      const size = Math.min(piece.length, left)
      batch.add(frameType.data, this.#id, piece.subarray(0, size))
      left -= size
      this.#again = size === piece.length ? rest : [piece.subarray(size), ...rest]
    }
    return left
  }
}
