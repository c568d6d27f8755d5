import { renderPath } from './problem.ts'

/**
 * The keys whose values differ between two documents, `modules.edgeTunnel.servers`, sorted. A list is one value: what
 * changed inside it is not told apart.
 */
export function changedKeysOf(before: unknown, after: unknown): string[] {
  return collect(before, after, []).map(renderPath).sort()
}

function collect(before: unknown, after: unknown, path: readonly string[]): (readonly string[])[] {
  if (!isMapping(before) || !isMapping(after)) return JSON.stringify(before) === JSON.stringify(after) ? [] : [path]
  const keys = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...keys].flatMap((key) => collect(before[key], after[key], [...path, key]))
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
