/**
 * What one server takes for many agents: `scripts/isolated node test/bench/many-agents.ts [count] [idle seconds]`. Prints
 * its memory while light agents come, when all are there and idle, and how soon they are all registered again after
 * the server was started anew. Needs the built executable.
 */
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createLab, type LabProcess } from '../lab/index.ts'
import { type Figure, reportFigures } from './support/figures.ts'
import { observedOn } from './support/observed.ts'
import { megabytes, renderTable, usageOf } from './support/usage.ts'

const count = Number(process.argv[2] ?? 1000)
const idleSeconds = Number(process.argv[3] ?? 60)
const processes = 4
const patienceMs = 20 * 60_000
const againMs = 60_000

await using lab = await createLab({ cloud: { relay: {}, agents: {} } })
const relay = lab.node('relay')
const first = await lab.startServer('relay')
let server = observedOn(relay, 'server', first.pid)
const rows: string[][] = [['agents', 'MB rss', 'anon', 'heap', 'external', 'CPU s', 'open files']]
await note('none')

const perProcess = Math.ceil(count / processes)
const clients = Array.from({ length: processes }, (_, index) => startClients(index * perProcess))
for (const share of [0.1, 0.25, 0.5, 0.75, 1]) {
  const each = Math.max(1, Math.ceil(perProcess * share))
  await Promise.all(clients.map((client) => client.waitForLine(new RegExp(`^connected ${each}$`), patienceMs)))
  await note(String(each * processes))
}
await delay(5_000)
const before = await usageOf(server)
await delay(idleSeconds * 1000)
const idle = await note(`${perProcess * processes} after ${idleSeconds} s`)
const idleCpu = ((idle.cpuSeconds - before.cpuSeconds) * 100) / idleSeconds
const losses = upLines().length - perProcess * processes

await first.stop()
const fresh = await lab.startServer('relay')
const startedAt = await listensAt(fresh)
server = observedOn(relay, 'server', fresh.pid)
const again = await untilAllAgain()
await delay(15_000)
const later = await note('all again')
process.stdout.write(`${renderTable(rows)}\n`)
process.stdout.write(`lost while they were to stay: ${losses}\n`)
await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()))
await reportFigures('many-agents', [
  { ...cost('resident, idle', 'MB', idle.rss / 1e6), goal: { of: 'server', atMost: count <= 10 ? 120 : 400 } },
  cost('resident, all back after a restart', 'MB', later.rss / 1e6),
  cost('CPU while idle', '%', idleCpu),
  cost('half are registered again', 's', quantile(again, 0.5)),
  {
    ...cost('all are registered again', 's', quantile(again, 1)),
    goal: { of: 'server', atMost: count <= 50 ? 1 : 15 },
  },
])

function cost(name: string, unit: string, server: number): Figure {
  return { name, unit, values: { server }, isCost: true }
}

function startClients(first: number): LabProcess {
  const settings = {
    server: relay.address,
    port: 20004,
    pskFile: join(lab.dir, 'psk'),
    dir: join(lab.dir, 'light'),
    first,
    count: perProcess,
  }
  const script = join(import.meta.dirname, 'load', 'light-agents.ts')
  return lab.node('agents').spawn([process.execPath, script, JSON.stringify(settings)])
}

/** Names and times of those that were registered, in order. */
function upLines(): { readonly name: string; readonly at: number }[] {
  const lines = clients.flatMap((client) => client.output().match(/^up .*/gm) ?? [])
  return lines.map((line) => {
    const [, name = '', at] = line.split(' ')
    return { name, at: Number(at) }
  })
}

async function listensAt(server: LabProcess): Promise<number> {
  const line = await server.waitForLine(/server listens/)
  const { time } = JSON.parse(line) as { readonly time: number | string }
  return new Date(time).getTime()
}

/** Seconds after which each agent was registered for good, least first. */
async function untilAllAgain(): Promise<number[]> {
  const until = Date.now() + againMs
  for (;;) {
    const last = new Map(upLines().flatMap(({ name, at }) => (at >= startedAt ? [[name, at] as const] : [])))
    const seconds = [...last.values()].map((at) => (at - startedAt) / 1000).sort((left, right) => left - right)
    if (seconds.length === perProcess * processes || Date.now() > until) return seconds
    await delay(200)
  }
}

function quantile(sorted: readonly number[], share: number): number {
  if (sorted.length < perProcess * processes) return Number.POSITIVE_INFINITY
  return sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN
}

async function note(agents: string) {
  const usage = await usageOf(server)
  const memory = [usage.rss, usage.rssAnon, usage.heapUsed, usage.external].map(megabytes)
  rows.push([agents, ...memory, usage.cpuSeconds.toFixed(1), String(usage.openFiles)])
  return usage
}
