import process from 'node:process'

/** What a load generator prints as its last line: how many tries did what they should, and why the others did not. */
export interface LoadReport {
  readonly succeeded: number
  /** Reason to count. */
  readonly failures: Readonly<Record<string, number>>
  readonly seconds: number
}

/** Runs `attempt` for each index below `count`, at most `concurrency` at once, and prints the report. */
export async function runLoad(
  { count, concurrency }: { readonly count: number; readonly concurrency: number },
  attempt: (index: number) => Promise<void>,
): Promise<void> {
  const startedMs = performance.now()
  const failures: Record<string, number> = {}
  let succeeded = 0
  let next = 0
  const work = async () => {
    while (next < count) {
      const index = next++
      try {
        await attempt(index)
        succeeded += 1
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error)
        failures[reason] = (failures[reason] ?? 0) + 1
      }
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  const report: LoadReport = { succeeded, failures, seconds: (performance.now() - startedMs) / 1000 }
  process.stdout.write(`${JSON.stringify(report)}\n`)
}
