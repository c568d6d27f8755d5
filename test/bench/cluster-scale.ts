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
import { observedOn } from './support/observed.ts'
import { megabytes, usageOf } from './support/usage.ts'

const count = Number(process.argv[2] ?? 5_000)
const changes = 20

await using site = await startScaleSite(count)
print(`${count} Services made in the API in ${(site.writtenMs / 1_000).toFixed(1)} s`)
print(`agent: all in the kernel ${site.programmedMs.toFixed(0)} ms after its start`)
await printMemory('right after')
await delay(15_000)
await printMemory('15 s later')
const before = await usage()
const times: number[] = []
for (let change = 0; change < changes; change++) {
  times.push(await site.changeMs())
  await delay(200)
}
const sorted = times.toSorted((one, other) => one - other)
print(
  `one change, watch event -> new connection there: median ${medianOf(times)} ms, best ${sorted[0]}, worst ${sorted.at(-1)}`,
)
const after = await usage()
print(`CPU of the agent for each change: ${(((after.cpuSeconds - before.cpuSeconds) * 1_000) / changes).toFixed(0)} ms`)
await printMemory(`after ${changes} changes`)
await delay(30_000)
await printMemory('30 s later')
print(`the most that it ever held: ${megabytes((await site.memory()).most)} MB`)
const { reachability: _, ...proxy } = (await statusOf(site.lab.node('cloud-1'))).proxy ?? {}
print(JSON.stringify(proxy))

async function printMemory(when: string): Promise<void> {
  const { rss, rssAnon, heapUsed, external } = await usage()
  const [all, anon, heap, outside] = [rss, rssAnon, heapUsed, external].map(megabytes)
  print(`memory ${when}: rss ${all} MB, of it anon ${anon} MB; heap ${heap} MB, external ${outside} MB`)
}

async function usage() {
  return await usageOf(observedOn(site.lab.node('cloud-1'), 'agent', site.agent.pid))
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
