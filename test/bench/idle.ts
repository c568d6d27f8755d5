/**
 * What agents with all parts on and three peers, and their server, take while nothing happens:
 * `scripts/isolated node test/bench/idle.ts [seconds]`.
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createSite, eventually, get, nodes, startMesh } from '../e2e/support/site.ts'
import { trafficOf } from '../lab/index.ts'
import { type Observed, observedOn } from './support/observed.ts'
import { megabytes, renderTable, usageOf } from './support/usage.ts'

const seconds = Number(process.argv[2] ?? 60)
/** Peers are met, records exchanged, direct connections tried; holes are sought for a minute after traffic. */
const settleMs = 180_000

await using lab = await createSite()
const mesh = await startMesh(lab)
for (const node of nodes) {
  const other = node === 'edge-b1' ? 'edge-a1' : 'edge-b1'
  await eventually(15_000, async () => void (await get(lab.node(node), `web-${other}`, '/', 3_000)))
}
await delay(settleMs)

const observed = [
  ...nodes.map((node) => observedOn(lab.node(node), 'agent', mesh.agent(node).pid)),
  observedOn(lab.node('relay'), 'server', mesh.server.pid),
]
const before = await Promise.all(observed.map(readAll))
await delay(seconds * 1000)
const after = await Promise.all(observed.map(readAll))

const header = ['MB', 'rss', 'anon', 'file', 'heap', 'external', 'CPU %', 'bytes/min in', 'out', 'open files']
const rows = observed.map(({ name }, at) => {
  const [first, last] = [before[at], after[at]]
  if (first === undefined || last === undefined) throw new Error(`${name} was not read`)
  const { usage } = last
  const cpu = (100 * (usage.cpuSeconds - first.usage.cpuSeconds)) / seconds
  const perMinute = (end: number, start: number) => (((end - start) * 60) / seconds).toFixed(0)
  return [
    name,
    ...[usage.rss, usage.rssAnon, usage.rssFile, usage.heapUsed, usage.external].map(megabytes),
    cpu.toFixed(2),
    perMinute(last.traffic.received, first.traffic.received),
    perMinute(last.traffic.sent, first.traffic.sent),
    String(usage.openFiles),
  ]
})
process.stdout.write(`idle for ${seconds} s\n${renderTable([header, ...rows])}\n`)

async function readAll(process: Observed) {
  return { usage: await usageOf(process), traffic: await trafficOf(process.pid) }
}
