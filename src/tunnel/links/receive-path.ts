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
 */
export class ReceivePath {
  #link: Link
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

  /** Takes a piece, and gives those that are next in order; `received` is how many bytes were given before. */
  arrive(link: Link, piece: Piece, received: number): Piece[] {
    const arrival = this.#arrivals.findLast((candidate) => candidate.link === link)
    if (arrival !== undefined) {
      arrival.queue.push(piece)
      this.#queuedBytes += piece?.length ?? 0
      return []
    }
    if (link !== this.#link) throw new LinkProtocolError('a flow sends on a link that it has not moved to')
    if (this.#arrivals.length === 0) return [piece]
    return [piece, ...this.#next(received + (piece?.length ?? 0))]
  }

  /** Notes that the bytes from an offset come on another link, and gives those that are next in order. */
  move(link: Link, offset: number, received: number): Piece[] {
    if (offset < received || this.#arrivals.length >= maxArrivals) {
      throw new LinkProtocolError(`a flow cannot move at ${offset}`)
    }
    link.flows += 1
    this.#arrivals.push({ link, offset, queue: [] })
    return this.#next(received)
  }

  /** Lets go of the links. */
  close(): void {
    if (this.#isClosed) return
    this.#isClosed = true
    for (const { link } of [{ link: this.#link }, ...this.#arrivals]) link.flows -= 1
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
      this.#link.flows -= 1
      this.#link = arrival.link
      const bytes = arrival.queue.reduce((sum, piece) => sum + (piece?.length ?? 0), 0)
      this.#queuedBytes -= bytes
      received += bytes
      pieces.push(...arrival.queue)
    }
  }
}
