import { bulkBuffers } from '../../net/index.ts'

/** Room for what has been sent and may have to be sent again, shared by all flows of a process. */
export interface ReplayBudget {
  /** Takes room; false when there is none. */
  takeReplay(bytes: number): boolean
  giveReplay(bytes: number): void
}

/** What a piece costs besides its bytes. */
const pieceOverheadBytes = 128

interface Piece {
  readonly bytes: Buffer
  /** Nobody else has a use for the buffer. */
  readonly isLast: boolean
}

/**
 * The bytes of one direction that were sent and are not yet known to have arrived, by their absolute offsets. Keeps the
 * writer's own buffers and copies nothing. Without room it lets go of everything: what is not here cannot be sent again.
 */
export class ReplayBuffer {
  readonly #budget: ReplayBudget
  #pieces: Piece[] = []
  #start = 0
  #end = 0
  #taken = 0

  constructor(budget: ReplayBudget) {
    this.#budget = budget
  }

  /** Offset behind the last byte that was added. */
  get end(): number {
    return this.#end
  }

  get isEmpty(): boolean {
    return this.#pieces.length === 0
  }

  /** Keeps a piece of a writer's buffer; with the last one the buffer is given back once it has arrived. */
  add(bytes: Buffer, isLast: boolean): void {
    this.#end += bytes.length
    const cost = bytes.length + pieceOverheadBytes
    if (!this.#budget.takeReplay(cost)) {
      this.clear()
      return
    }
    this.#taken += cost
    this.#pieces.push({ bytes, isLast })
  }

  /** Everything before this offset has arrived. */
  acknowledge(offset: number): void {
    let count = 0
    let freed = 0
    for (const { bytes, isLast } of this.#pieces) {
      if (this.#start + bytes.length > offset) break
      this.#start += bytes.length
      freed += bytes.length + pieceOverheadBytes
      count += 1
      if (isLast) bulkBuffers.give(bytes)
    }
    if (count === 0) return
    this.#pieces.splice(0, count)
    this.#give(freed)
  }

  /** All bytes from this offset on; undefined when some of them are gone, or were never sent. */
  since(offset: number): Buffer[] | undefined {
    if (offset < this.#start || offset > this.#end) return undefined
    this.acknowledge(offset)
    // From now on they are looked at in two places.
    this.#pieces = this.#pieces.map(({ bytes }) => ({ bytes, isLast: false }))
    const [first, ...rest] = this.#pieces.map(({ bytes }) => bytes)
    return first === undefined ? [] : [first.subarray(offset - this.#start), ...rest]
  }

  /** Lets go of everything. */
  clear(): void {
    this.#pieces = []
    this.#start = this.#end
    this.#give(this.#taken)
  }

  #give(bytes: number): void {
    this.#taken -= bytes
    this.#budget.giveReplay(bytes)
  }
}
