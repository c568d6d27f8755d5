/** How many bytes of one node a relay carries a day; 0: any number. */
export interface ByteCapOptions {
  readonly bytesPerNodeAndDay: number
}

/** A stream that is joined to another one, as far as its bytes are counted. */
export interface CountedStream {
  /** What has come from it so far. */
  readonly bytesRead: number
}

const dayMs = 24 * 3600 * 1000

/** What each node has used of a relay since midnight (UTC), and who has used all that it may. */
export class ByteCaps {
  #options: ByteCapOptions
  readonly #nowMs: () => number
  readonly #used = new Map<string, number>()
  readonly #counted = new WeakMap<CountedStream, number>()
  #day: number

  constructor(options: ByteCapOptions, nowMs: () => number = Date.now) {
    this.#options = options
    this.#nowMs = nowMs
    this.#day = this.#today()
  }

  /** From now on this is the cap, for what was used before as well. */
  set(options: ByteCapOptions): void {
    this.#options = options
  }

  /** Adds what has come from the stream since it was counted last to both nodes. */
  count(pair: readonly [string, string], stream: CountedStream): void {
    this.#turnDay()
    const { bytesRead } = stream
    const fresh = bytesRead - (this.#counted.get(stream) ?? 0)
    this.#counted.set(stream, bytesRead)
    if (fresh > 0) for (const node of pair) this.#used.set(node, (this.#used.get(node) ?? 0) + fresh)
  }

  /** Why nothing more is carried for the node today; undefined when it is. */
  refusalOf(node: string): string | undefined {
    this.#turnDay()
    const cap = this.#options.bytesPerNodeAndDay
    if (cap === 0 || (this.#used.get(node) ?? 0) < cap) return undefined
    const until = new Date((this.#day + 1) * dayMs).toISOString().replace(':00.000Z', 'Z')
    return (
      `it has used the ${sizeText(cap)} a day that this relay carries for a node ` +
      `(edgeTunnel.relay.bytesPerNodeAndDay there), until ${until}`
    )
  }

  /** All nodes for which nothing more is carried today, with the reason. */
  get spent(): ReadonlyMap<string, string> {
    const spent = new Map<string, string>()
    for (const node of this.#used.keys()) {
      const reason = this.refusalOf(node)
      if (reason !== undefined) spent.set(node, reason)
    }
    return spent
  }

  #turnDay(): void {
    const today = this.#today()
    if (today === this.#day) return
    this.#day = today
    this.#used.clear()
  }

  #today(): number {
    return Math.floor(this.#nowMs() / dayMs)
  }
}

function sizeText(bytes: number): string {
  return bytes >= 1e9 ? `${bytes / 1e9} GB` : `${bytes / 1e6} MB`
}
