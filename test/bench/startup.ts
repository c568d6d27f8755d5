/**
 * How long the executable takes to start, without network: `scripts/isolated node test/bench/startup.ts [RUNS]`. Prints the
 * median and the range of RUNS (default 10) runs, and exits with 1 when a median misses its goal.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { cpus, loadavg } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { edgemeshBinary } from '../lab/edgemesh.ts'
import { requireIsolation } from '../lab/isolation.ts'

await requireIsolation()
const runs = Number(process.argv[2] ?? 10)
const binary = edgemeshBinary()
// Inside scripts/isolated /run is empty and goes away.
const folder = mkdtempSync('/run/startup-')
const config = join(folder, 'agent.yaml')
writeAgentConfig()

async function timeOf(run: () => Promise<void> | void): Promise<number> {
  const started = performance.now()
  await run()
  return performance.now() - started
}

function runToEnd(...args: string[]): void {
  const { status, stderr } = spawnSync(binary, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${args.join(' ')}: ${stderr}`)
}

/** Until all listeners and rules stand: the agent says so in its log. */
async function timeOfAgent(): Promise<number> {
  const started = performance.now()
  const agent = spawn(binary, ['agent', '--config', config], { stdio: ['ignore', 'ignore', 'pipe'] })
  const exited = once(agent, 'exit')
  let log = ''
  const ready = new Promise<void>((resolve) => {
    agent.stderr.on('data', (chunk: Buffer) => {
      log += chunk.toString()
      if (log.includes('"agent ready"')) resolve()
    })
  })
  await Promise.race([ready, exited])
  const elapsed = performance.now() - started
  if (agent.exitCode !== null) throw new Error(log)
  agent.kill('SIGTERM')
  await exited
  return elapsed
}

function writeAgentConfig(): void {
  const manifests = join(folder, 'manifests')
  const psk = join(folder, 'psk')
  mkdirSync(manifests)
  writeFileSync(psk, 'a key that is long enough for everybody', { mode: 0o600 })
  writeFileSync(
    config,
    `kind: EdgeMeshAgent
nodeName: startup
stateDir: ${folder}/state
runtimeDir: ${folder}/run
kubeAPIConfig: { manifests: ${manifests} }
modules:
  edgeDNS: { enable: true }
  edgeProxy: { enable: true }
  edgeTunnel: { enable: true, psk: { path: ${psk} } }
`,
  )
}

const cases: readonly { readonly name: string; readonly goalMs: number; readonly measure: () => Promise<number> }[] = [
  { name: '--version', goalMs: 300, measure: () => timeOf(() => runToEnd('--version')) },
  { name: '--help', goalMs: 300, measure: () => timeOf(() => runToEnd('--help')) },
  { name: 'check-config', goalMs: 500, measure: () => timeOf(() => runToEnd('check-config', config)) },
  { name: 'agent, to all listeners', goalMs: 1_000, measure: timeOfAgent },
]

process.stdout.write(`${binary}, ${runs} runs, ${cpus().length} CPUs, load ${loadavg()[0]?.toFixed(1)}\n`)
for (const { name, goalMs, measure } of cases) {
  const times: number[] = []
  for (let run = 0; run < runs; run++) times.push(await measure())
  times.sort((a, b) => a - b)
  const median = times[Math.floor(times.length / 2)] ?? Number.NaN
  const [first = 0, last = 0] = [times[0], times.at(-1)].map((time) => Math.round(time ?? 0))
  process.stdout.write(`${name.padEnd(25)}median ${Math.round(median)} ms (${first}-${last}), goal ${goalMs} ms\n`)
  if (median > goalMs) process.exitCode = 1
}
