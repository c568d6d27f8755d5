import { DialError } from '../../net/index.ts'
import type { Carrier } from '../flows/carrier.ts'

/** What hedging needs to know of a carrier. */
export interface HedgeOptions {
  /** Silence of this length, in milliseconds, makes the other way worth a try. */
  readonly afterMs: number
  /** When the peer was heard on this carrier for the last time, as `performance.now()` tells it. */
  lastHeardMs(): number
  /** Asks for a sign of life, so that a slow target is not taken for a silent path. */
  probe(): void
  /** Another way to the same peer; undefined when there is none. */
  alternative(signal: AbortSignal): Promise<Carrier | undefined>
  /** The other way has answered while this one was silent. */
  onSilent(): void
}

/**
 * A carrier that opens each flow a second time, another way, when nothing is heard from the peer at all, and again while
 * that fails; whichever way answers first is taken, and the other attempt given up. Nothing is sent before a flow is open, so nothing is sent twice.
 */
export function createHedgedCarrier(primary: Carrier, options: HedgeOptions): Carrier {
  return {
    peerId: primary.peerId,
    path: primary.path,
    open: (request, signal) =>
      hedge(primary, options, signal, {
        open: (carrier, limit) => carrier.open(request, limit),
        discard: (stream) => void stream.destroy(),
      }),
    openDatagrams: (request, signal) =>
      hedge(primary, options, signal, {
        open: (carrier, limit) => carrier.openDatagrams(request, limit),
        discard: (channel) => channel[Symbol.dispose](),
      }),
  }
}

interface Opening<T> {
  open(carrier: Carrier, signal: AbortSignal): Promise<T>
  /** Ends what was opened in vain. */
  discard(opened: T): void
}

function hedge<T>(primary: Carrier, options: HedgeOptions, signal: AbortSignal, opening: Opening<T>): Promise<T> {
  signal.throwIfAborted()
  const { promise, resolve, reject } = Promise.withResolvers<T>()
  const startedMs = performance.now()
  const isSilent = () => options.lastHeardMs() < startedMs
  const losers = new AbortController()
  const onAbort = () => losers.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  let pending = 0
  let isSettled = false
  let isPrimaryOver = false
  const settle = (outcome: () => void) => {
    isSettled = true
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
    outcome()
    losers.abort(new Error('another way was faster'))
  }
  const attempt = async (opened: Promise<T>, onWon: () => void, onLost = () => {}) => {
    pending += 1
    try {
      const result = await opened
      if (isSettled) return opening.discard(result)
      onWon()
      settle(() => resolve(result))
    } catch (error) {
      pending -= 1
      // The far end's own answer is the same on any way; a way that does not work leaves the other one.
      if (!isSettled && (error instanceof DialError || pending === 0)) settle(() => reject(error))
      if (!isSettled) onLost()
    }
  }
  const throughOther = async () => {
    const other = await options.alternative(losers.signal)
    if (other === undefined) throw new Error('there is no other way')
    return await opening.open(other, losers.signal)
  }
  // A peer that has lost this way may have to find its relay again first.
  const onSecondHalf = () => {
    if (isPrimaryOver || !isSilent()) return
    const again = () => {
      timer = setTimeout(onSecondHalf, options.afterMs)
    }
    void attempt(throughOther(), () => isSilent() && options.onSilent(), again)
  }
  const onFirstHalf = () => {
    if (isSilent()) options.probe()
    timer = setTimeout(onSecondHalf, options.afterMs / 2)
  }
  const onPrimaryLost = () => {
    isPrimaryOver = true
  }
  let timer = setTimeout(onFirstHalf, options.afterMs / 2)
  void attempt(opening.open(primary, losers.signal), () => {}, onPrimaryLost)
  return promise
}
