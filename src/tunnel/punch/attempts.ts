import { type BackoffPolicy, backoffDelayMs } from '../../runtime/index.ts'

/** Two nodes that cannot meet now may never: what is tried again for ever is tried ever less often. */
const retryPolicy: BackoffPolicy = {
  firstMs: 4000,
  maxMs: 50_000,
  jitter: 0.3,
  patience: { afterAttempts: 8, maxMs: 3_600_000 },
}

/** Traffic after so long is worth one attempt at once. */
const quietMs = 600_000

/** A peer that asks has a back-off of its own; it cannot make us try more often than this. */
const askedPauseMs = 4000

/** When to try again to make one kind of connection to one peer; remembers while nothing happens. Pure but for chance. */
export class Attempts {
  /** Ends the wait for the next attempt. */
  wake: () => void = () => {}
  isRunning = false
  readonly #random: () => number
  #failed = 0
  #endedAtMs = Number.NEGATIVE_INFINITY
  #notBeforeMs = Number.NEGATIVE_INFINITY
  #wantedAtMs = Number.NEGATIVE_INFINITY
  #isAsked = false

  constructor(random: () => number = Math.random) {
    this.#random = random
  }

  /** Every other attempt is made from a new port: of that one NATs remember nothing, whatever they do with the usual one. */
  get isNewPortDue(): boolean {
    return this.#failed % 2 === 1
  }

  /** Traffic here could use the connection. */
  noteWanted(nowMs: number): void {
    if (nowMs - this.#wantedAtMs > quietMs) this.#notBeforeMs = Math.min(this.#notBeforeMs, nowMs)
    this.#wantedAtMs = nowMs
  }

  /** The peer asks for it. */
  noteAsked(nowMs: number): void {
    this.#isAsked = true
    this.#notBeforeMs = Math.min(this.#notBeforeMs, Math.max(nowMs, this.#endedAtMs + askedPauseMs))
    this.wake()
  }

  noteFailure(nowMs: number): void {
    this.#failed += 1
    this.#endedAtMs = nowMs
    this.#notBeforeMs = nowMs + backoffDelayMs(retryPolicy, this.#failed, this.#random)
    this.#isAsked = false
  }

  /** It stands: what is wanted next is something else. */
  noteSuccess(nowMs: number): void {
    this.#endedAtMs = nowMs
    this.#wantedAtMs = Number.NEGATIVE_INFINITY
    this.#isAsked = false
    this.reset()
  }

  /** What kept it from standing may be gone. */
  reset(): void {
    this.#failed = 0
    this.#notBeforeMs = Number.NEGATIVE_INFINITY
    this.wake()
  }

  /** How long to wait before the next attempt; 0 when it may begin. */
  delayMs(nowMs: number): number {
    return Math.max(0, this.#notBeforeMs - nowMs)
  }

  /** Somebody has wanted it in this time, or the peer has asked since the last attempt. */
  isWanted(nowMs: number, withinMs: number): boolean {
    return this.#isAsked || nowMs - this.#wantedAtMs < withinMs
  }

  /** Nothing in here is worth remembering. */
  isStale(nowMs: number): boolean {
    return !this.isRunning && nowMs >= this.#notBeforeMs && nowMs - this.#wantedAtMs > quietMs
  }
}
