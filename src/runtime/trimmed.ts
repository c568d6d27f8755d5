/**
 * The list in no more room than it needs. One that was pushed to, as `filter` and `flatMap` do, has room for 17; that
 * counts where such lists are kept by the ten thousand.
 */
export function trimmed<T>(list: readonly T[]): T[] {
  return list.slice()
}
