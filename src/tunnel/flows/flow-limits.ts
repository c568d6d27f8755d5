/** How many flows may be open at once. */
export interface FlowLimits {
  readonly total: number
  readonly perPeer: number
}

/** Counts the open flows of one direction, in total and by peer. */
export class FlowCounter {
  readonly #limits: FlowLimits
  readonly #byPeer = new Map<string, number>()
  readonly #waiting = new Set<() => void>()
  #total = 0

  constructor(limits: FlowLimits) {
    this.#limits = limits
  }

  get total(): number {
    return this.#total
  }

  ofPeer(peerId: string): number {
    return this.#byPeer.get(peerId) ?? 0
  }

  /** Counts one more flow until disposed; undefined at a limit. */
  enter(peerId: string): Disposable | undefined {
    const count = this.ofPeer(peerId)
    if (this.#total >= this.#limits.total || count >= this.#limits.perPeer) return undefined
    this.#total += 1
    this.#byPeer.set(peerId, count + 1)
    return new Counted(() => this.#leave(peerId))
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

  #leave(peerId: string): void {
    this.#total -= 1
    const count = this.ofPeer(peerId) - 1
    if (count > 0) this.#byPeer.set(peerId, count)
    else this.#byPeer.delete(peerId)
    if (this.#total === 0) for (const resume of this.#waiting) resume()
  }
}

/** A flow that is counted until disposal. */
class Counted implements Disposable {
  #leave: (() => void) | undefined

  constructor(leave: () => void) {
    this.#leave = leave
  }

  [Symbol.dispose](): void {
    this.#leave?.()
    this.#leave = undefined
  }
}
