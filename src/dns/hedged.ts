import { TimeLimit } from '../runtime/index.ts'

/** The reason of an attempt's signal when another attempt made it needless. */
export const answeredElsewhere = new Error('another attempt was faster')

/** When the next attempt begins and when all end. */
export interface HedgeOptions<Result> {
  /** How long this attempt may take alone before the next one begins beside it. */
  readonly delayMsOf: (attempt: number) => number
  /** False for a result that is worth no more than having none from another attempt. */
  readonly isGood: (result: Result) => boolean
  /** How long all of it may take. */
  readonly totalMs: number
  readonly signal: AbortSignal
}

/** One way to get the result; undefined for none. Never rejects, and ends early when the signal aborts. */
export type Attempt<Result> = (signal: AbortSignal) => Promise<Result | undefined>

/**
 * Tries one after the other: the next begins when one has failed or takes long, without ending that one. Resolves with
 * the first good result; when there is none, with the first one at all.
 */
export function hedged<Result>(
  attempts: readonly Attempt<Result>[],
  options: HedgeOptions<Result>,
): Promise<Result | undefined> {
  const { promise, resolve } = Promise.withResolvers<Result | undefined>()
  const over = new AbortController()
  const limit = new TimeLimit(options.totalMs, options.signal, over.signal)
  let begun = 0
  let ended = 0
  let fallback: Result | undefined
  let timer: NodeJS.Timeout | undefined
  const finish = (result: Result | undefined): void => {
    clearTimeout(timer)
    resolve(result)
    over.abort(answeredElsewhere)
    limit[Symbol.dispose]()
  }
  const end = (result: Result | undefined): void => {
    ended++
    if (result !== undefined && options.isGood(result)) {
      finish(result)
      return
    }
    fallback ??= result
    begin()
  }
  const begin = (): void => {
    clearTimeout(timer)
    const attempt = limit.signal.aborted ? undefined : attempts[begun]
    if (attempt !== undefined) {
      timer = setTimeout(begin, options.delayMsOf(begun))
      begun++
      void attempt(limit.signal).then(end)
    } else if (ended === begun) finish(fallback)
  }
  limit.signal.addEventListener('abort', () => finish(fallback), { once: true })
  begin()
  return promise
}
