import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { renderTable } from './usage.ts'

/** One thing that was measured for several contenders in one run, as medians. */
export interface Figure {
  readonly name: string
  readonly unit: string
  readonly values: Readonly<Record<string, number>>
  /** Less is better, as with latencies. */
  readonly isCost?: boolean
  readonly goal?: Goal
}

/** What a figure should be. */
export interface Goal {
  /** The contender that has the goal. */
  readonly of: string
  /** A multiple of this contender's value; absent for a bound of the value itself. */
  readonly against?: string
  /** The difference to `against` counts instead of the ratio. */
  readonly isDifference?: boolean
  readonly atLeast?: number
  readonly atMost?: number
}

/** What a bench leaves in the folder of results. */
export interface BenchResult {
  readonly bench: string
  readonly figures: readonly Figure[]
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[sorted.length >> 1] ?? Number.NaN
}

/** The number that the goal speaks of, and whether it is met. */
export function outcomeOf({ values, goal }: Figure): { readonly value: number; readonly isMet: boolean } | undefined {
  if (goal === undefined) return undefined
  const own = values[goal.of] ?? Number.NaN
  const other = goal.against === undefined ? 1 : (values[goal.against] ?? Number.NaN)
  const value = goal.isDifference === true ? own - other : own / other
  return {
    value,
    isMet: value >= (goal.atLeast ?? Number.NEGATIVE_INFINITY) && value <= (goal.atMost ?? Number.POSITIVE_INFINITY),
  }
}

/** Prints the figures as a table, and leaves them as JSON where `npm run bench` wants them. */
export async function reportFigures(bench: string, figures: readonly Figure[]): Promise<void> {
  const contenders = [...new Set(figures.flatMap(({ values }) => Object.keys(values)))]
  const header = ['', ...contenders, 'goal', 'measured', '']
  const rows = figures.map((figure) => [
    `${figure.name}, ${figure.unit}`,
    ...contenders.map((contender) => shown(figure.values[contender])),
    ...goalCells(figure),
  ])
  process.stdout.write(`${renderTable([header, ...rows])}\n`)
  const folder = process.env['EDGEMESH_BENCH_RESULTS']
  if (folder === undefined) return
  const result: BenchResult = { bench, figures }
  await mkdir(folder, { recursive: true })
  await writeFile(join(folder, `${bench}.json`), `${JSON.stringify(result, undefined, 2)}\n`)
}

function goalCells(figure: Figure): readonly string[] {
  const { goal } = figure
  const outcome = outcomeOf(figure)
  if (goal === undefined || outcome === undefined) return ['', '', '']
  const bound = goal.atLeast === undefined ? `<= ${goal.atMost}` : `>= ${goal.atLeast}`
  const kind =
    goal.against === undefined ? '' : goal.isDifference === true ? ` over ${goal.against}` : ` x ${goal.against}`
  return [`${goal.of} ${bound}${kind}`, shown(outcome.value), outcome.isMet ? 'met' : 'MISSED']
}

function shown(value: number | undefined): string {
  return value === undefined ? '' : Number.isNaN(value) ? '?' : Number(value.toPrecision(4)).toString()
}
