/** How many flows may be open at once. */
export interface FlowLimits {
  readonly total: number
  readonly perPeer: number
}

/** A flow that is counted until disposal. */
export interface CountedFlow extends Disposable {
  /** It carries datagrams: at a limit it may have to give way to another flow, and is ended by this. */
  mayBeEnded(end: () => void): void
  /** It has carried a datagram now. */
  used(): void
}

/** More datagrams than a question and its answer, asked twice, make it a flow that goes on. */
const mostOfExchange = 4

/** Whoever has asked and still waits for the answer should not lose its place, in milliseconds. */
const answerMs = 2000

/**
 * Counts the open flows of one direction, in total and by peer. Each port that asks one question over UDP is a flow until it
 * has been quiet for long, so at a limit those give way: first what asked once, as in a kernel's table of connections
 * whose early drop spares what goes on, then what was quiet longest.
 */
export class FlowCounter {
  readonly #limits: FlowLimits
  readonly #onEvicted: () => void
  readonly #byPeer = new Map<string, PeerFlows>()
  readonly #waiting = new Set<() => void>()
  #total = 0

  constructor(limits: FlowLimits, onEvicted: () => void = () => {}) {
    this.#limits = limits
    this.#onEvicted = onEvicted
  }

  get total(): number {
    return this.#total
  }

  ofPeer(peerId: string): number {
    return this.#byPeer.get(peerId)?.count ?? 0
  }

  /** Counts one more flow until disposed; undefined at a limit where nothing can give way. */
  enter(peerId: string): CountedFlow | undefined {
    if (this.ofPeer(peerId) >= this.#limits.perPeer && !this.#endQuietest(this.#byPeer.get(peerId))) return undefined
    if (this.#total >= this.#limits.total && !this.#endQuietest(this.#greediest())) return undefined
    const peer = this.#byPeer.get(peerId) ?? new PeerFlows()
    this.#byPeer.set(peerId, peer)
    this.#total += 1
    peer.count += 1
    return new Counted(peer, () => this.#leave(peerId, peer))
  }

  /** Resolves when no flow is open, or when the signal aborts. */
  async idle(signal: AbortSignal): Promise<void> {
    if (this.#total === 0 || signal.aborted) return
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#waiting.add(resolve)
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.#waiting.delete(resolve)
  }

  #endQuietest(peer: PeerFlows | undefined): boolean {
    const flow = peer?.quietest()
    flow?.end()
    if (flow !== undefined) this.#onEvicted()
    return flow !== undefined
  }

  /** Who fills the total with datagrams pays for it, not the others. */
  #greediest(): PeerFlows | undefined {
    let most: PeerFlows | undefined
    for (const peer of this.#byPeer.values()) if (peer.datagramFlows > (most?.datagramFlows ?? 0)) most = peer
    return most
  }

  #leave(peerId: string, peer: PeerFlows): void {
    this.#total -= 1
    peer.count -= 1
    if (peer.count === 0) this.#byPeer.delete(peerId)
    if (this.#total === 0) for (const resume of this.#waiting) resume()
  }
}

/** The flows of one peer; of those that carry datagrams the ones that were quiet longest come first. */
class PeerFlows {
  count = 0
  readonly exchanges = new Set<Counted>()
  readonly lasting = new Set<Counted>()

  get datagramFlows(): number {
    return this.exchanges.size + this.lasting.size
  }

  quietest(): Counted | undefined {
    const [exchange] = this.exchanges
    const [lasting] = this.lasting
    if (exchange === undefined || lasting === undefined) return exchange ?? lasting
    const isAnswered = performance.now() - exchange.usedMs >= answerMs
    return isAnswered || exchange.usedMs <= lasting.usedMs ? exchange : lasting
  }
}

class Counted implements CountedFlow {
  usedMs = 0
  readonly #peer: PeerFlows
  #datagrams = 0
  #leave: (() => void) | undefined
  #end: (() => void) | undefined

  constructor(peer: PeerFlows, leave: () => void) {
    this.#peer = peer
    this.#leave = leave
  }

  mayBeEnded(end: () => void): void {
    if (this.#leave === undefined) return
    this.#end = end
    this.usedMs = performance.now()
    this.#peer.exchanges.add(this)
  }

  used(): void {
    if (this.#leave === undefined) return
    const { exchanges, lasting } = this.#peer
    this.usedMs = performance.now()
    this.#datagrams += 1
    const from = this.#datagrams > mostOfExchange + 1 ? lasting : exchanges
    from.delete(this)
    const to = this.#datagrams > mostOfExchange ? lasting : exchanges
    to.add(this)
  }

  end(): void {
    this[Symbol.dispose]()
    this.#end?.()
  }

  [Symbol.dispose](): void {
    this.#peer.exchanges.delete(this)
    this.#peer.lasting.delete(this)
    this.#leave?.()
    this.#leave = undefined
  }
}
