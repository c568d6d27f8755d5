/**
 * An agent that follows a real API server with many Services: `scripts/isolated node test/bench/cluster-scale.ts
 * [SERVICES]`, 5000 when absent, with two ports and three endpoints each. Prints how long they take until they are in
 * the kernel, what the agent weighs, and how long one change takes from its watch event until a connection gets there.
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { startScaleSite } from '../e2e/support/scale-site.ts'
import { statusOf } from '../e2e/support/site.ts'
import { medianOf } from '../e2e/support/steady-requests.ts'
import { megabytes } from './support/usage.ts'

const count = Number(process.argv[2] ?? 5_000)
const changes = 30

await using site = await startScaleSite(count)
print(`${count} Services made in the API in ${(site.writtenMs / 1_000).toFixed(1)} s`)
print(`agent: all in the kernel ${site.programmedMs.toFixed(0)} ms after its start`)
await printMemory('right after')
await delay(15_000)
await printMemory('15 s later')
const times: number[] = []
for (let change = 0; change < changes; change++) {
  times.push(await site.changeMs())
  await delay(200)
}
const sorted = times.toSorted((one, other) => one - other)
print(
  `one change, watch event -> new connection there: median ${medianOf(times)} ms, best ${sorted[0]}, worst ${sorted.at(-1)}`,
)
await printMemory(`after ${changes} changes`)
await delay(30_000)
await printMemory('30 s later')
print(JSON.stringify((await statusOf(site.lab.node('cloud-1'))).proxy))

async function printMemory(when: string): Promise<void> {
  const { rss, anon } = await site.memory()
  print(`memory ${when}: rss ${megabytes(rss)} MB, of it anon ${megabytes(anon)} MB`)
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
