import { type ByteStream, type DatagramChannel, DialError } from '../../net/index.ts'
import { abortable } from '../../runtime/index.ts'
import type { Carrier } from '../flows/carrier.ts'
import type { OpenRequest } from '../flows/open-message.ts'

/** What hedging needs to know of a carrier. */
export interface HedgeOptions {
  /** Silence of this length, in milliseconds, makes the other way worth a try. */
  afterMs(): number
  /** When the peer was heard on this carrier for the last time, as `performance.now()` tells it. */
  lastHeardMs(): number
  /** Asks for a sign of life, so that a slow target is not taken for a silent path. */
  probe(): void
  /** Another way to the same peer; undefined when there is none. */
  alternative(): Promise<Carrier | undefined>
  /** The other way has answered while this one was silent. */
  onSilent(): void
}

/**
 * A carrier that opens each flow a second time, another way, when nothing is heard from the peer at all, and again while
 * that fails; whichever way answers first is taken, and the other attempt given up. Nothing is sent before a flow is
 * open, so nothing is sent twice.
 */
export function createHedgedCarrier(primary: Carrier, options: HedgeOptions): Carrier {
  return {
    peerId: primary.peerId,
    path: primary.path,
    open: (request, signal) => new Hedge(primary, options, openingStream(request)).run(signal),
    openDatagrams: (request, signal) => new Hedge(primary, options, openingDatagrams(request)).run(signal),
  }
}

interface Opening<T> {
  open(carrier: Carrier, signal: AbortSignal): Promise<T>
  /** Ends what was opened in vain. */
  discard(opened: T): void
}

function openingStream(request: OpenRequest): Opening<ByteStream> {
  return { open: (carrier, signal) => carrier.open(request, signal), discard: (stream) => void stream.destroy() }
}

function openingDatagrams(request: OpenRequest): Opening<DatagramChannel> {
  return {
    open: (carrier, signal) => carrier.openDatagrams(request, signal),
    discard: (channel) => channel[Symbol.dispose](),
  }
}

const nothing = () => {}

/** One flow being opened. Nearly all of them are answered on the first way, so that one has nothing to spare. */
class Hedge<T> {
  readonly #primary: Carrier
  readonly #options: HedgeOptions
  readonly #opening: Opening<T>
  /** What is heard from now on is a sign of life; begins anew with each one. */
  #sinceMs = performance.now()
  readonly #outcome = Promise.withResolvers<T>()
  readonly #attempts = new AbortController()
  #parent: AbortSignal | undefined
  #timer: NodeJS.Timeout | undefined
  #pending = 0
  #isSettled = false
  #isPrimaryOver = false

  constructor(primary: Carrier, options: HedgeOptions, opening: Opening<T>) {
    this.#primary = primary
    this.#options = options
    this.#opening = opening
  }

  run(signal: AbortSignal): Promise<T> {
    if (signal.aborted) return Promise.reject(signal.reason)
    this.#parent = signal
    signal.addEventListener('abort', this)
    this.#timer = setTimeout(this.#onFirstHalf, this.#options.afterMs() / 2)
    void this.#attempt(this.#opening.open(this.#primary, this.#attempts.signal), nothing, this.#onPrimaryLost)
    return this.#outcome.promise
  }

  /** Of the signal: nobody wants the flow any more. */
  handleEvent(): void {
    this.#attempts.abort(this.#parent?.reason)
  }

  readonly #onFirstHalf = (): void => {
    if (this.#isSilent) this.#options.probe()
    this.#timer = setTimeout(this.#onSecondHalf, this.#options.afterMs() / 2)
  }

  readonly #onSecondHalf = (): void => {
    if (this.#isPrimaryOver) return
    if (!this.#isSilent) {
      // It may have fallen silent right after: what was heard belongs to another flow.
      this.#sinceMs = performance.now()
      this.#timer = setTimeout(this.#onFirstHalf, this.#options.afterMs() / 2)
      return
    }
    // A peer that has lost this way may have to find its relay again first.
    const again = () => {
      this.#timer = setTimeout(this.#onSecondHalf, this.#options.afterMs())
    }
    void this.#attempt(this.#throughOther(), () => this.#isSilent && this.#options.onSilent(), again)
  }

  readonly #onPrimaryLost = (): void => {
    this.#isPrimaryOver = true
  }

  get #isSilent(): boolean {
    return this.#options.lastHeardMs() < this.#sinceMs
  }

  async #attempt(opened: Promise<T>, onWon: () => void, onLost: () => void): Promise<void> {
    this.#pending += 1
    try {
      const result = await opened
      if (this.#isSettled) {
        this.#opening.discard(result)
        return
      }
      onWon()
      this.#settle()
      this.#outcome.resolve(result)
    } catch (error) {
      this.#pending -= 1
      // The far end's own answer is the same on any way; a way that does not work leaves the other one.
      if (this.#isSettled) return
      if (error instanceof DialError || this.#pending === 0) {
        this.#settle()
        this.#outcome.reject(error)
      } else {
        onLost()
      }
    }
  }

  #settle(): void {
    this.#isSettled = true
    clearTimeout(this.#timer)
    this.#parent?.removeEventListener('abort', this)
    if (this.#pending > 1) this.#attempts.abort(new Error('another way was faster'))
  }

  async #throughOther(): Promise<T> {
    // Seeking it goes on for others.
    const other = await abortable(this.#options.alternative(), this.#attempts.signal)
    if (other === undefined) throw new Error('there is no other way')
    return await this.#opening.open(other, this.#attempts.signal)
  }
}
