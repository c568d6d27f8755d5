/** What one list has and the other has not, by identity. */
export interface ListDifference<T> {
  readonly removed: readonly T[]
  readonly added: readonly T[]
}

/**
 * Compares two lists that are mostly the same objects in the same order, each once. What only moved may be told as both removed
 * and added.
 */
export function listDifference<T>(before: readonly T[], after: readonly T[]): ListDifference<T> {
  let start = 0
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1
  let tail = 0
  const most = Math.min(before.length, after.length) - start
  while (tail < most && before[before.length - 1 - tail] === after[after.length - 1 - tail]) tail += 1
  const gone = before.slice(start, before.length - tail)
  const come = after.slice(start, after.length - tail)
  if (gone.length === come.length) {
    return {
      removed: gone.filter((item, at) => item !== come[at]),
      added: come.filter((item, at) => item !== gone[at]),
    }
  }
  const [old, fresh] = [new Set(gone), new Set(come)]
  return { removed: gone.filter((item) => !fresh.has(item)), added: come.filter((item) => !old.has(item)) }
}
