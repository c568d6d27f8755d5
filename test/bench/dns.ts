/**
 * Cached names over UDP: edgemesh's DNS beside dnsmasq and unbound, all asked by dnsperf in one run, in turn. CPU is
 * that of the server's process; the p99 is taken at 5,000 questions a second. On a busy machine the p99 shows the
 * scheduler, not the servers: `--realtime` puts them and dnsperf before everybody else. Needs the Debian packages
 * dnsperf, dnsmasq-base and unbound:
 * `scripts/isolated scripts/with-node test/bench/dns.ts [rounds] [seconds] [--realtime] [--cpu-prof]`.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { type Figure, median, reportFigures } from './support/figures.ts'

const rounds = Number(process.argv[2] ?? 3)
const seconds = Number(process.argv[3] ?? 5)
const priority = process.argv.includes('--realtime') ? ['chrt', '--rr', '1'] : []
const profileFlags = process.argv.includes('--cpu-prof') ? ['--cpu-prof', '--cpu-prof-dir=/tmp'] : []
const nameCount = 1000
const steadyRate = 5000
const domain = 'bench.svc.cluster.local'
const address = '127.0.0.1'
const ticksPerSecond = 100

const names = Array.from({ length: nameCount }, (_, index) => [`s${index}.${domain}`, addressOf(index)] as const)

interface Contender {
  readonly name: string
  readonly port: number
  start(folder: string): Promise<ChildProcess>
}

const contenders: readonly Contender[] = [
  {
    name: 'edgemesh',
    port: 5301,
    start: async () => {
      const script = join(import.meta.dirname, 'support', 'dns-process.ts')
      return run([process.execPath, ...profileFlags, script, '5301', JSON.stringify(names)])
    },
  },
  {
    name: 'dnsmasq',
    port: 5302,
    async start(folder) {
      const records = names.map(([name, ip]) => `host-record=${name},${ip},30`)
      const file = join(folder, 'dnsmasq.conf')
      await writeFile(
        file,
        [
          `listen-address=${address}`,
          'bind-interfaces',
          'port=5302',
          'no-resolv',
          'no-hosts',
          'user=root',
          ...records,
          '',
        ].join('\n'),
      )
      return run(['dnsmasq', '--keep-in-foreground', `--conf-file=${file}`, '--pid-file='])
    },
  },
  {
    name: 'unbound',
    port: 5303,
    async start(folder) {
      const records = names.map(([name, ip]) => `  local-data: "${name}. 30 IN A ${ip}"`)
      const file = join(folder, 'unbound.conf')
      const server = [
        'server:',
        `  interface: ${address}@5303`,
        '  num-threads: 1',
        '  chroot: ""',
        '  username: ""',
        '  use-syslog: no',
        '  pidfile: ""',
        '  do-daemonize: no',
        '  local-zone: "cluster.local." static',
      ]
      await writeFile(file, [...server, ...records, ''].join('\n'))
      return run(['unbound', '-d', '-c', file])
    },
  },
]

/** What one run against one server showed. */
interface Measurement {
  readonly queriesPerSecond: number
  readonly cpuMicrosPerQuery: number
  readonly p99Ms: number
  readonly lost: number
}

/** Starts a program, before everybody else when that was asked for. */
function run(argv: readonly string[], stdout: 'inherit' | 'pipe' = 'inherit'): ChildProcess {
  const [command = '', ...rest] = [...priority, ...argv]
  return spawn(command, rest, { stdio: ['ignore', stdout, 'ignore'] })
}

function addressOf(index: number): string {
  return `10.96.${index >> 8}.${index & 255}`
}

/** CPU time that a process has used, in seconds. */
function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
}

async function dnsperf(port: number, data: string, ...flags: string[]): Promise<string> {
  const argv = ['dnsperf', '-s', address, '-p', String(port), '-d', data, '-l', String(seconds), ...flags]
  const child = run(argv, 'pipe')
  const chunks: Buffer[] = []
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk))
  await new Promise((resolve) => child.once('close', resolve))
  return Buffer.concat(chunks).toString()
}

const numberIn = (text: string, pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? Number.NaN)

async function measure(pid: number, port: number, data: string): Promise<Measurement> {
  const cpuBefore = cpuOf(pid)
  const fast = await dnsperf(port, data, '-q', '100', '-c', '4')
  const completed = numberIn(fast, /Queries completed:\s+(\d+)/)
  const cpuMicrosPerQuery = ((cpuOf(pid) - cpuBefore) * 1e6) / completed
  const steady = await dnsperf(port, data, '-Q', String(steadyRate), '-c', '4', '-v')
  const latencies = [...steady.matchAll(/^> \w+ \S+ \S+ ([\d.]+)$/gm)]
    .map(([, text]) => Number(text))
    .sort((a, b) => a - b)
  return {
    queriesPerSecond: numberIn(fast, /Queries per second:\s+([\d.]+)/),
    cpuMicrosPerQuery,
    p99Ms: (latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN) * 1000,
    lost: numberIn(fast, /Queries lost:\s+(\d+)/) + numberIn(steady, /Queries lost:\s+(\d+)/),
  }
}

function figures(results: ReadonlyMap<string, readonly Measurement[]>): readonly Figure[] {
  const of = (key: keyof Measurement) =>
    Object.fromEntries([...results].map(([name, list]) => [name, median(list.map((each) => each[key]))]))
  return [
    {
      name: 'CPU of the server',
      unit: 'us/query',
      values: of('cpuMicrosPerQuery'),
      isCost: true,
      goal: { of: 'edgemesh', atMost: 10 },
    },
    { name: 'as many as it can', unit: 'queries/s', values: of('queriesPerSecond') },
    {
      name: `p99 at ${steadyRate} queries/s`,
      unit: 'ms',
      values: of('p99Ms'),
      isCost: true,
      goal: { of: 'edgemesh', atMost: 1 },
    },
    { name: 'lost', unit: 'queries', values: of('lost'), isCost: true },
  ]
}

const folder = await mkdtemp(join(tmpdir(), 'bench-dns-'))
const running = new Map<string, ChildProcess>()
try {
  const data = join(folder, 'questions')
  await writeFile(data, `${names.map(([name]) => `${name} A`).join('\n')}\n`)
  for (const { name, start } of contenders) running.set(name, await start(folder))
  await delay(3000)
  const results = new Map(contenders.map(({ name }) => [name, [] as Measurement[]]))
  for (let round = 0; round < rounds; round++) {
    const order = [...contenders.slice(round % contenders.length), ...contenders.slice(0, round % contenders.length)]
    for (const { name, port } of order) {
      const pid = running.get(name)?.pid
      if (pid !== undefined) results.get(name)?.push(await measure(pid, port, data))
    }
  }
  process.stdout.write(`medians of ${rounds} rounds of ${seconds} s, ${nameCount} names\n`)
  await reportFigures('dns', figures(results))
} finally {
  for (const child of running.values()) child.kill('SIGTERM')
  await delay(500)
  await rm(folder, { recursive: true, force: true })
}
