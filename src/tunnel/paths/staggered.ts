import { TimeLimit } from '../../runtime/index.ts'

/**
 * Begins one attempt after the other, the next one when the last has failed or given no answer for this time, and
 * resolves with the first that succeeds; those that come later are the business of whoever made them. Resolves with
 * undefined when all have failed; `onFailure` is told of each.
 */
export async function firstOf<T>(
  attempts: readonly (() => Promise<T>)[],
  patienceMs: number,
  onFailure: (error: unknown) => void,
): Promise<T | undefined> {
  const { promise, resolve } = Promise.withResolvers<T>()
  let isWon = false
  const won = promise.then(() => {
    isWon = true
  })
  const running = []
  for (const attempt of attempts) {
    if (isWon) break
    const outcome = attempt().then(resolve, onFailure)
    running.push(outcome)
    using patience = new TimeLimit(patienceMs)
    const { promise: late, resolve: onLate } = Promise.withResolvers<void>()
    patience.signal.addEventListener('abort', () => onLate(), { once: true })
    await Promise.race([outcome, won, late])
  }
  const allFailed = Promise.allSettled(running).then(() => undefined)
  return await Promise.race([promise, allFailed])
}
