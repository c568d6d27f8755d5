import type { ReplayBudget } from './replay-buffer.ts'

/** Something that holds bytes for a slow reader. */
export interface Holder {
  readonly heldBytes: number
  /** Gives up what it holds. */
  overflow(): void
}

/** Bounds of what all flows of a process may hold. */
export interface WindowLimits {
  /** What windows may grow by, in sum. */
  readonly growthBytes: number
  /** Beyond this nothing more is promised than must be. */
  readonly pressureBytes: number
  /** Beyond this the flow that holds most is given up. */
  readonly maxHeldBytes: number
  /** What may be kept in case that it has to be sent again. */
  readonly maxReplayBytes: number
}

const kilobyte = 1024
const megabyte = 1024 * kilobyte

/** The bounds of a node of the usual size. */
export const windowLimits: WindowLimits = {
  growthBytes: 32 * megabyte,
  pressureBytes: 24 * megabyte,
  maxHeldBytes: 64 * megabyte,
  maxReplayBytes: 16 * megabyte,
}

/** Window of a new flow. */
export const firstWindowBytes = 256 * kilobyte

/** The most that a window may grow to. */
export const maxWindowBytes = 4 * megabyte

/** The window under pressure, or of a flow among many: nearly all of those are idle. */
export const smallWindowBytes = 64 * kilobyte
const manyFlows = 128

/**
 * Shares out memory among all flows of a process. Windows are promises, most of which are never called in; what is
 * really held is counted, and decides what is promised next.
 */
export class WindowBudget implements ReplayBudget {
  readonly #limits: WindowLimits
  readonly #holders = new Set<Holder>()
  #held = 0
  #grown = 0
  #replay = 0

  constructor(limits: WindowLimits = windowLimits) {
    this.#limits = limits
  }

  get heldBytes(): number {
    return this.#held
  }

  /** What is kept in case that it has to be sent again. */
  get replayBytes(): number {
    return this.#replay
  }

  /** The window of one more flow. */
  enter(holder: Holder): number {
    const isRoomy = this.#holders.size < manyFlows && !this.#isPressed
    this.#holders.add(holder)
    return isRoomy ? firstWindowBytes : smallWindowBytes
  }

  leave(holder: Holder, windowBytes: number, heldBytes: number): void {
    if (!this.#holders.delete(holder)) return
    this.#held -= heldBytes
    this.#grown -= grownBytes(windowBytes)
  }

  /** Notes what a holder holds more or less than before; the largest one goes when all together hold too much. */
  adjust(changeBytes: number): void {
    this.#held += changeBytes
    if (changeBytes > 0 && this.#held > this.#limits.maxHeldBytes) this.#largest()?.overflow()
  }

  /** The next window of a flow whose reader keeps up, or the same when there is no room. */
  grow(windowBytes: number): number {
    const next = Math.min(windowBytes * 2, maxWindowBytes)
    const more = grownBytes(next) - grownBytes(windowBytes)
    if (this.#isPressed || this.#grown + more > this.#limits.growthBytes) return windowBytes
    this.#grown += more
    return next
  }

  /** The window that a flow gets from now on: a small one while memory is short. */
  shrink(windowBytes: number): number {
    if (!this.#isPressed || windowBytes <= smallWindowBytes) return windowBytes
    this.#grown -= grownBytes(windowBytes)
    return smallWindowBytes
  }

  takeReplay(bytes: number): boolean {
    if (this.#replay + bytes > this.#limits.maxReplayBytes) return false
    this.#replay += bytes
    return true
  }

  giveReplay(bytes: number): void {
    this.#replay -= bytes
  }

  get #isPressed(): boolean {
    return this.#held > this.#limits.pressureBytes
  }

  #largest(): Holder | undefined {
    let largest: Holder | undefined
    for (const holder of this.#holders) if (holder.heldBytes > (largest?.heldBytes ?? 0)) largest = holder
    return largest
  }
}

function grownBytes(windowBytes: number): number {
  return Math.max(0, windowBytes - firstWindowBytes)
}
