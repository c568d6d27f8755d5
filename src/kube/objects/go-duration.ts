import type { Field } from './field.ts'

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
}
const durationPattern = /^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/

/** Milliseconds of `1.5s`, `250ms` or `1h30m`; undefined when absent. At most 24 days, as timers can wait. */
export function parseDurationMs(field: Field): number | undefined {
  if (field.isAbsent) return undefined
  const text = field.text()
  if (!durationPattern.test(text)) throw field.error('must be a duration such as 1.5s, 250ms or 1h30m')
  let total = 0
  for (const [, amount, , unit] of text.matchAll(/(\d+(\.\d+)?)(ns|us|µs|ms|s|m|h)/g)) {
    total += Number(amount) * (unitMs[unit ?? ''] ?? 0)
  }
  return Math.min(total, 2 ** 31 - 1)
}
