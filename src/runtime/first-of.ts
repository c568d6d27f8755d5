import { TimeLimit } from './time-limit.ts'

/** One of several ways to the same thing. */
export interface Attempt<T> {
  begin(): Promise<T>
  /** Without an answer for this long, the next one begins as well. */
  readonly patienceMs: number
}

/**
 * Begins one attempt after the other, the next one when the last has failed or takes longer than its patience, and
 * resolves with the first that succeeds; those that come later are the business of whoever made them. Resolves with
 * undefined when all have failed; `onFailure` is told of each.
 */
export async function firstOf<T>(
  attempts: readonly Attempt<T>[],
  onFailure: (error: unknown) => void,
): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<T>()
  let isWon = false
  const won = promise.then(() => {
    isWon = true
  })
  const running = []
  for (const { begin, patienceMs } of attempts) {
    if (isWon) break
    const outcome = begin().then(resolve, onFailure)
    running.push(outcome)
    using patience = new TimeLimit(patienceMs)
    const { promise: late, resolve: onLate } = Promise.withResolvers<void>()
    patience.signal.addEventListener('abort', () => onLate(), { once: true })
    await Promise.race([outcome, won, late])
  }
  const allFailed = Promise.allSettled(running).then(() => undefined)
  return await Promise.race([promise, allFailed])
}
