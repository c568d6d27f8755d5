/**
 * What one server takes for many agents: `scripts/isolated node test/bench/many-agents.ts [count]`. Prints its memory
 * while light agents come, when all are there and idle, and after they have left.
 */
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createLab, type LabProcess } from '../lab/index.ts'
import { observedOn } from './support/observed.ts'
import { megabytes, renderTable, usageOf } from './support/usage.ts'

const count = Number(process.argv[2] ?? 1000)
const processes = 4
const idleSeconds = 60
const patienceMs = 20 * 60_000

await using lab = await createLab({ cloud: { relay: {}, agents: {} } })
const relay = lab.node('relay')
const server = observedOn(relay, 'server', (await lab.startServer('relay')).pid)
const rows: string[][] = [['agents', 'MB rss', 'anon', 'heap', 'external', 'CPU s', 'open files']]
await note('none')

const perProcess = Math.ceil(count / processes)
const clients = Array.from({ length: processes }, (_, index) => startClients(index * perProcess))
for (const share of [0.1, 0.25, 0.5, 0.75, 1]) {
  const each = Math.max(1, Math.ceil(perProcess * share))
  await Promise.all(clients.map((client) => client.waitForLine(new RegExp(`^connected ${each}$`), patienceMs)))
  await delay(2_000)
  await note(String(each * processes))
}
const before = await usageOf(server)
await delay(idleSeconds * 1000)
const { cpuSeconds } = await note(`${perProcess * processes} after ${idleSeconds} s`)
await Promise.all(clients.map((client) => client[Symbol.asyncDispose]()))
await delay(30_000)
await note('all gone for 30 s')
process.stdout.write(
  `${renderTable(rows)}\nCPU while idle: ${(((cpuSeconds - before.cpuSeconds) * 100) / idleSeconds).toFixed(1)} %\n`,
)
const lost = clients.flatMap((client) =>
  client
    .output()
    .split('\n')
    .filter((line) => line.startsWith('lost')),
)
process.stdout.write(`connections lost while they were to stay: ${lost.length}\n`)

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

async function note(agents: string) {
  const usage = await usageOf(server)
  const memory = [usage.rss, usage.rssAnon, usage.heapUsed, usage.external].map(megabytes)
  rows.push([agents, ...memory, usage.cpuSeconds.toFixed(1), String(usage.openFiles)])
  return usage
}
