import { LinkProtocolError } from './frame.ts'
import type { Link } from './link.ts'

/** Bytes, or the end of the direction. */
type Piece = Buffer | null

interface Arrival {
  readonly link: Link
  readonly offset: number
  readonly queue: Piece[]
}

/** A direction that moves faster than its bytes arrive is not what we send. */
const maxArrivals = 4

/**
 * Puts one direction of a flow in order while it moves between links:
 *
 *     link 1   ... 4 MiB |                 the rest of what was sent there may come late
 *     link 2             | MOVE 4 MiB ...  what comes here early waits
 *
 * After a link was lost it begins anew: what is still under way on old links is skipped until the sender answers with a
 * MOVE to where our bytes end.
 */
export class ReceivePath {
  /** Absent while the sender is asked to begin anew. */
  #link: Link | undefined
  /** Where the sender was asked to; its answer comes there before all moves from there on. */
  #asked: Link | undefined
  /** How often it began anew. */
  #epoch = 0
  #arrivals: Arrival[] = []
  #queuedBytes = 0
  #isClosed = false

  constructor(link: Link) {
    this.#link = link
    link.flows += 1
  }

  /** What came early and waits. */
  get queuedBytes(): number {
    return this.#queuedBytes
  }

  uses(link: Link): boolean {
    return this.#link === link || this.#arrivals.some((arrival) => arrival.link === link)
  }

  /** The sender has been asked to begin anew and has not answered yet. */
  get isWaiting(): boolean {
    return this.#link === undefined && !this.#isClosed
  }

  get epoch(): number {
    return this.#epoch
  }

  /** Everything comes on this link, in order. */
  isOnly(link: Link): boolean {
    return link === this.#link && this.#arrivals.length === 0
  }

  /** What comes there was sent before the sender began anew; throws when it never did. */
  isStale(link: Link): boolean {
    if (link === this.#link || this.#arrivals.some((arrival) => arrival.link === link)) return false
    if (this.#epoch === 0) throw new LinkProtocolError('a flow sends on a link that it has not moved to')
    return true
  }

  /** Skips everything until the sender, asked on this link, has moved to where our bytes end; gives the number that it must answer. */
  restart(asked: Link): number {
    this.#release()
    this.#asked = asked
    this.#epoch += 1
    return this.#epoch
  }

  /** Takes a piece, or a copy when it waits, and gives those that are next in order; `received` is how many bytes were given before. */
  arrive(link: Link, piece: Piece, received: number): Piece[] {
    const arrival = this.#arrivals.findLast((candidate) => candidate.link === link)
    if (arrival !== undefined) {
      arrival.queue.push(piece && Buffer.from(piece))
      this.#queuedBytes += piece?.length ?? 0
      return []
    }
    if (this.isStale(link)) return []
    if (this.#arrivals.length === 0) return [piece]
    return [piece, ...this.#next(received + (piece?.length ?? 0))]
  }

  /**
   * Notes that the bytes from an offset come on another link, and gives those that are next in order. Moves to different links
   * may overtake each other.
   */
  move(link: Link, offset: number, received: number): Piece[] {
    if (offset < received || this.#arrivals.length >= maxArrivals) {
      throw new LinkProtocolError(`a flow cannot move at ${offset}`)
    }
    if (this.#isClosed) return []
    link.flows += 1
    if (this.#link === undefined && link === this.#asked) {
      if (offset !== received) throw new LinkProtocolError(`a flow cannot go on at ${offset}`)
      this.#link = link
    } else {
      const before = this.#arrivals.filter((arrival) => arrival.offset <= offset).length
      this.#arrivals.splice(before, 0, { link, offset, queue: [] })
    }
    return this.#link === undefined ? [] : this.#next(received)
  }

  /** Lets go of the links. */
  close(): void {
    if (this.#isClosed) return
    this.#release()
    this.#isClosed = true
  }

  #release(): void {
    if (this.#link !== undefined) this.#link.flows -= 1
    for (const { link } of this.#arrivals) link.flows -= 1
    this.#link = undefined
    this.#asked = undefined
    this.#arrivals = []
    this.#queuedBytes = 0
  }

  #next(receivedBefore: number): Piece[] {
    const pieces: Piece[] = []
    let received = receivedBefore
    for (;;) {
      const [arrival] = this.#arrivals
      if (arrival === undefined || received < arrival.offset) return pieces
      if (received > arrival.offset) throw new LinkProtocolError('a flow sends beyond the offset that it moves at')
      this.#arrivals.shift()
      if (this.#link !== undefined) this.#link.flows -= 1
      this.#link = arrival.link
      const bytes = arrival.queue.reduce((sum, piece) => sum + (piece?.length ?? 0), 0)
      this.#queuedBytes -= bytes
      received += bytes
      pieces.push(...arrival.queue)
    }
  }
}
