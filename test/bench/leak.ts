/**
 * What a day does to the memory of agents and server, in minutes:
 *
 *     scripts/isolated node test/bench/leak.ts [scale] [word...]
 *
 * Scale 1, the default, is all of it, and takes half an hour on two cores; words choose kinds of load by their names.
 * Prints memory and open files at intervals and, for each kind of load, the slope after warm-up: a leak shows as a
 * slope that stays. The heap is its floor, but a load that makes little garbage may see no collection at all.
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { LoadReport } from './load/report.ts'
import { type LeakSite, startLeakSite } from './support/leak-site.ts'
import type { Observed } from './support/observed.ts'
import { megabytes, openFilesOf, renderTable, slopeOf, type Usage, usageOf, watchHeap } from './support/usage.ts'

const [scaleText = '1', ...words] = process.argv.slice(2)
const scale = Number(scaleText)
/** The first part of each kind of load is not counted: caches fill, code is compiled. */
const warmUpPart = 0.3
const samplesPerKind = 20
/** Agents and server give back then what their start took, in their first quiet; loads would hide it. */
const startOverMs = 20_000

interface Kind {
  readonly name: string
  readonly count: number
  readonly run: (count: number) => Promise<LoadReport>
}

interface Sample {
  readonly done: number
  readonly usage: Usage
  /** The least heap seen since the sample before: what garbage collection cannot free. */
  readonly heapFloor: number
}

await using site = await startLeakSite()
await delay(startOverMs)
let failed = 0
const baseline = await openFiles(site)
for (const kind of kindsOf(site)) await observe(kind)
await delay(10_000)
const atEnd = await openFiles(site)
print(
  `\nopen files, before and after: ${site.observed.map(({ name }, at) => `${name} ${baseline[at]} ${atEnd[at]}`).join(', ')}`,
)
print(`failures: ${failed}`)
process.exitCode = failed === 0 ? 0 : 1

function kindsOf(leakSite: LeakSite): Kind[] {
  const kinds: readonly Kind[] = [
    { name: 'connections over the relay', count: 100_000, run: (count) => leakSite.connect('edge-b1', count) },
    { name: 'connections over the LAN', count: 100_000, run: (count) => leakSite.connect('edge-a2', count) },
    { name: 'UDP flows over the relay', count: 20_000, run: (count) => leakSite.exchange(count) },
    { name: 'DNS queries', count: 100_000, run: (count) => leakSite.query(count) },
    { name: 'reconnects', count: 1_000, run: (count) => leakSite.reconnect(count) },
    { name: 'connections that outlive links', count: 400, run: (count) => leakSite.outlive(count) },
    { name: 'pauses of the line', count: 200, run: (count) => leakSite.pause(count) },
    { name: 'snapshot changes', count: 10_000, run: (count) => leakSite.change(count) },
  ]
  return kinds
    .filter(({ name }) => words.length === 0 || words.some((word) => name.includes(word)))
    .map((kind) => ({ ...kind, count: Math.round(kind.count * scale) }))
}

async function observe({ name, count, run }: Kind): Promise<void> {
  const startedMs = performance.now()
  const samples = new Map<Observed, Sample[]>(site.observed.map((observed) => [observed, []]))
  const failures: Record<string, number> = {}
  print(`\n${name}: ${count}; MB rss, anon, heap floor, external, then open files`)
  const step = Math.ceil(count / samplesPerKind)
  for (let done = 0; done < count; ) {
    const now = Math.min(step, count - done)
    const watches = site.observed.map(watchHeap)
    const report = await run(now)
    const floors = await Promise.all(watches.map((watch) => watch.end()))
    done += now
    for (const [reason, times] of Object.entries(report.failures)) {
      failures[reason] = (failures[reason] ?? 0) + times
      failed += times
    }
    for (const [at, [observed, taken]] of [...samples].entries()) {
      const usage = await usageOf(observed)
      taken.push({ done, usage, heapFloor: Math.min(floors[at] ?? usage.heapUsed, usage.heapUsed) })
    }
    const shown = [...samples].map(([{ name: host }, taken]) => renderSample(host, taken))
    print(`  ${String(done).padStart(6)}  ${shown.join('   ')}`)
  }
  const seconds = (performance.now() - startedMs) / 1000
  print(`  ${seconds.toFixed(0)} s, ${(count / seconds).toFixed(0)} a second, failures ${JSON.stringify(failures)}`)
  print(renderSlopes(samples, count))
}

function renderSample(host: string, taken: readonly Sample[]): string {
  const last = taken.at(-1)
  if (last === undefined) return host
  const { rss, rssAnon, external, openFiles } = last.usage
  const memory = [rss, rssAnon, last.heapFloor, external].map(megabytes).join(' ')
  return `${host} ${memory} ${openFiles}`
}

function renderSlopes(samples: ReadonlyMap<Observed, readonly Sample[]>, count: number): string {
  const rows = [...samples].map(([{ name }, taken]) => {
    const warm = taken.filter(({ done }) => done > count * warmUpPart)
    // Bytes for each are kilobytes for each thousand.
    const slope = (read: (sample: Sample) => number) =>
      slopeOf(warm.map((sample) => [sample.done, read(sample)])).toFixed(1)
    return [
      `  ${name}`,
      slope(({ usage }) => usage.rss),
      slope(({ usage }) => usage.rssAnon),
      slope(({ heapFloor }) => heapFloor),
    ]
  })
  return renderTable([['  kB per 1,000 after warm-up', 'rss', 'anon', 'heap floor'], ...rows])
}

function openFiles({ observed }: LeakSite): Promise<number[]> {
  return Promise.all(observed.map(({ pid }) => openFilesOf(pid)))
}

function print(line: string): void {
  process.stdout.write(`${line}\n`)
}
