/** Room for what has been sent and may have to be sent again, shared by all flows of a process. */
export interface ReplayBudget {
  /** Takes room; false when there is none. */
  takeReplay(bytes: number): boolean
  giveReplay(bytes: number): void
}

/** What a piece costs besides its bytes. */
const pieceOverheadBytes = 128

/**
 * The bytes of one direction that were sent and are not yet known to have arrived, by their absolute offsets. Keeps the
 * writer's own buffers and copies nothing. Without room it lets go of everything: what is not here cannot be sent again.
 */
export class ReplayBuffer {
  readonly #budget: ReplayBudget
  #pieces: Buffer[] = []
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

  add(piece: Buffer): void {
    this.#end += piece.length
    const cost = piece.length + pieceOverheadBytes
    if (!this.#budget.takeReplay(cost)) {
      this.clear()
      return
    }
    this.#taken += cost
    this.#pieces.push(piece)
  }

  /** Everything before this offset has arrived. */
  acknowledge(offset: number): void {
    let count = 0
    let freed = 0
    for (const piece of this.#pieces) {
      if (this.#start + piece.length > offset) break
      this.#start += piece.length
      freed += piece.length + pieceOverheadBytes
      count += 1
    }
    if (count === 0) return
    this.#pieces.splice(0, count)
    this.#give(freed)
  }

  /** All bytes from this offset on; undefined when some of them are gone, or were never sent. */
  since(offset: number): Buffer[] | undefined {
    if (offset < this.#start || offset > this.#end) return undefined
    this.acknowledge(offset)
    const [first, ...rest] = this.#pieces
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
