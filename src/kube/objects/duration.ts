import type { Field } from './field.ts'

const unitsMs: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1, us: 0.001, ns: 0.000_001 }

/** Milliseconds of a duration as the API writes them, such as `1m30s`, `0.5s` or `100ms`; undefined when absent. */
export function parseDurationMs(field: Field): number | undefined {
  const text = field.text()
  if (text === '') return undefined
  if (text === '0') return 0
  if (!/^(\d+(\.\d+)?(h|ms|m|us|ns|s))+$/.test(text)) throw field.error('must be a duration, such as 1m30s or 100ms')
  let totalMs = 0
  for (const [, amount, unit = ''] of text.matchAll(/([\d.]+)(h|ms|m|us|ns|s)/g)) {
    totalMs += Number(amount) * (unitsMs[unit] ?? 0)
  }
  return totalMs
}
