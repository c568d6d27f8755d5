/**
 * All benches whose tools are installed, one after the other: `npm run bench [-- NAME ...]`. Each prints medians of its
 * contenders beside the goals; all of them end up in `bench-results/` as JSON, with a table and a chart. Needs root.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { cpus, loadavg, release } from 'node:os'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { edgemeshBinary } from '../lab/edgemesh.ts'
import { renderChart } from './support/chart.ts'
import { type BenchResult, outcomeOf } from './support/figures.ts'

interface Bench {
  readonly name: string
  /** Commands, and files where there is a slash, that it cannot do without. */
  readonly needs: readonly string[]
}

const root = resolve(import.meta.dirname, '../..')
const folder = join(root, 'bench-results')
const binary = edgemeshBinary()
const stream = '/usr/lib/nginx/modules/ngx_stream_module.so'
const goAgent = process.env['EDGEMESH_GO_AGENT'] ?? '/EDGEMESH_GO_AGENT is not set'
const patienceMs = 15 * 60_000

const benches: readonly Bench[] = [
  { name: 'same-node', needs: ['iperf3', 'nginx', 'wrk'] },
  { name: 'userspace', needs: ['iperf3', 'nginx', stream, 'haproxy', 'wrk'] },
  { name: 'udp', needs: ['iperf3', binary] },
  { name: 'many-dials', needs: [binary] },
  { name: 'programming', needs: [] },
  { name: 'dns', needs: ['dnsperf', 'dnsmasq', 'unbound'] },
  { name: 'gateway', needs: ['nginx', 'haproxy', 'wrk', binary] },
  { name: 'tunnel-links', needs: ['wrk', binary] },
  { name: 'new-connections', needs: ['nginx', stream, 'wrk', binary] },
  { name: 'go-peer', needs: ['wrk', binary, goAgent] },
  { name: 'long-line', needs: ['gcc', 'wrk', binary] },
  { name: 'relay-memory', needs: [binary] },
]

const wanted = process.argv.slice(2)
const unknown = wanted.filter((name) => !benches.some((bench) => bench.name === name))
if (unknown.length > 0) {
  throw new Error(`No such bench: ${unknown.join(', ')}; there are ${benches.map(({ name }) => name).join(', ')}`)
}
const failed: string[] = []
const results: BenchResult[] = []
for (const { name, needs } of benches.filter((bench) => wanted.length === 0 || wanted.includes(bench.name))) {
  const missing = needs.filter((need) => !isThere(need))
  if (missing.length > 0) {
    say(`${name}: left out, because there is no ${missing.join(', ')}`)
    continue
  }
  say(`== ${name}`)
  if (await isRunWell(name)) results.push(JSON.parse(await readFile(join(folder, `${name}.json`), 'utf8')))
  else failed.push(name)
}
await writeResults()
if (failed.length > 0) throw new Error(`Failed: ${failed.join(', ')}`)

function isThere(need: string): boolean {
  if (need.includes('/')) return existsSync(need)
  return (process.env['PATH'] ?? '').split(':').some((entry) => existsSync(join(entry, need)))
}

async function isRunWell(name: string): Promise<boolean> {
  const argv = [join(root, 'scripts/isolated'), process.execPath, join(import.meta.dirname, `${name}.ts`)]
  const [command = '', ...words] = argv
  const env = { ...process.env, EDGEMESH_BENCH_RESULTS: folder }
  const child = spawn(command, words, { stdio: ['ignore', 'inherit', 'inherit'], env })
  const timer = setTimeout(() => child.kill('SIGTERM'), patienceMs)
  const [code] = await once(child, 'exit')
  clearTimeout(timer)
  return code === 0
}

/** All in one document, a line for each goal, and the chart. */
async function writeResults(): Promise<void> {
  if (results.length === 0) return
  const machine = { cpus: cpus().length, model: cpus()[0]?.model ?? '', kernel: release(), load: loadavg()[0] ?? 0 }
  const at = new Date().toISOString()
  await writeFile(join(folder, 'all.json'), `${JSON.stringify({ at, machine, results }, undefined, 2)}\n`)
  await writeFile(join(folder, 'chart.svg'), renderChart(results))
  for (const { bench, figures } of results) {
    for (const figure of figures) {
      const outcome = outcomeOf(figure)
      if (outcome === undefined) continue
      const verdict = outcome.isMet ? 'met   ' : 'MISSED'
      say(
        `${verdict} ${bench}: ${figure.name}: ${Number(outcome.value.toPrecision(3))} ${figure.goal?.against === undefined ? figure.unit : `against ${figure.goal.against}`}`,
      )
    }
  }
  say(`written to ${folder}`)
}

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}
