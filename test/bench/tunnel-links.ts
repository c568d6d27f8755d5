/**
 * What links carry, beside yardsticks on the same machine and in the same run: `scripts/isolated node
 * test/bench/tunnel-links.ts [seconds]`, with wrk installed and the executable built.
 *
 *     pod client -> agent edge-a1 = link = agent edge-a2 -> pod web     LAN; yardstick: a plain splice on edge-a2
 *     pod client -> agent edge-a1 = server = agent edge-b1 -> pod web   relayed; yardstick: a plain splice on the server
 *
 * Rates depend on who else uses the machine; the ratios to the yardsticks of the run are what counts.
 */
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { createLab, endpointSliceManifest, type Host, type Lab, serviceManifest } from '../lab/index.ts'
import { reportFigures } from './support/figures.ts'
import { observedOn } from './support/observed.ts'
import { usageOf } from './support/usage.ts'

const seconds = process.argv[2] ?? '5'
const port = 8000
const patience = { timeoutMs: 120_000 }
const script = (name: string) => join(import.meta.dirname, 'load', name)
const pods = (name: string) => ({ pods: [`web-${name}`, `client-${name}`] })

await using lab = await createLab({
  cloud: { relay: {} },
  lans: {
    a: { nodes: { 'edge-a1': pods('edge-a1'), 'edge-a2': pods('edge-a2') } },
    b: { nat: 'port-preserving', nodes: { 'edge-b1': pods('edge-b1') } },
  },
})
const relay = lab.node('relay')
const server = observedOn(relay, 'server', (await lab.startServer('relay')).pid)
for (const [index, node] of ['edge-a2', 'edge-b1'].entries()) await addWeb(lab, node, `10.96.0.${index + 1}`)
await startPlain(lab.node('edge-a2'), lab.pod('web-edge-a2').address)
const client = lab.pod('client-edge-a1')

const columns = [
  ['1 stream', 'Gbit/s'],
  ['8 streams', 'Gbit/s'],
  ['kept connections, 16', 'requests/s'],
  ['kept connections, 200', 'requests/s'],
  ['new connections', '1/s'],
  ['p99 beside a stream', 'ms'],
] as const
const results = new Map<string, readonly number[]>()
for (const links of [true, false]) {
  const agents = await Promise.all(
    ['edge-a1', 'edge-a2', 'edge-b1'].map((name) => lab.startAgent(name, { modules: { edgeTunnel: { links } } })),
  )
  await delay(4000)
  const kind = links ? 'links' : 'libp2p streams'
  await measure(`LAN, ${kind}`, client, '10.96.0.1')
  await measure(`relayed, ${kind}`, client, '10.96.0.2')
  const { rss } = await usageOf(server)
  process.stdout.write(`server after that: ${(rss / 1e6).toFixed(0)} MB\n`)
  for (const agent of agents) await agent[Symbol.asyncDispose]()
}
await measure('plain splice on edge-a2', lab.node('edge-a1'), lab.node('edge-a2').address)
await reportFigures(
  'tunnel-links',
  columns.map(([name, unit], at) => ({
    name,
    unit,
    isCost: unit === 'ms',
    values: Object.fromEntries([...results].map(([path, values]) => [path, values[at] ?? Number.NaN])),
  })),
)

async function addWeb(into: Lab, node: string, clusterIP: string): Promise<void> {
  const pod = into.pod(`web-${node}`)
  await pod
    .spawn([process.execPath, script('link-servers.ts'), pod.address, String(port)])
    .waitForLine(/^listening/, 9000)
  const ports = [
    { name: 'http', port },
    { name: 'bulk', port: port + 1 },
  ]
  await into.writeManifest(
    `${node}.yaml`,
    [
      serviceManifest({ name: node, clusterIP, ports }),
      endpointSliceManifest({ serviceName: node, ports, endpoints: [{ address: pod.address, nodeName: node }] }),
    ].join('---\n'),
  )
}

async function startPlain(host: Host, upstream: string): Promise<void> {
  const arguments_ = [process.execPath, script('link-servers.ts'), host.address, String(port), upstream]
  await host.spawn(arguments_).waitForLine(/^listening/, 9000)
}

async function measure(name: string, from: Host, address: string): Promise<void> {
  await load(from, 'connect', address, 1, '1')
  const bulk1 = await load(from, 'bulk', address, 1)
  const bulk8 = await load(from, 'bulk', address, 8)
  const few = await wrk(from, address, 16)
  const many = await wrk(from, address, 200)
  const opened = await load(from, 'connect', address, 16)
  const background = load(from, 'bulk', address, 1, String(Number(seconds) + 2))
  await delay(1000)
  const { p99 } = await wrk(from, address, 4)
  await background
  results.set(name, [bulk1, bulk8, few.rate, many.rate, opened, p99].map(inUnit))
  process.stdout.write(`${[name, ...(results.get(name) ?? [])].join('  ')}\n`)
}

/** Latencies in ms, the rest as it is. */
function inUnit(text: string): number {
  const [, number = '', unit = ''] = /^([\d.]+)(us|ms|s)?$/.exec(text) ?? []
  return Number.parseFloat(number) * ({ us: 0.001, ms: 1, s: 1_000 }[unit] ?? 1)
}

async function load(
  from: Host,
  kind: 'bulk' | 'connect',
  address: string,
  count: number,
  time = seconds,
): Promise<string> {
  const target = [address, String(kind === 'bulk' ? port + 1 : port), String(count), time]
  const { stdout } = await from.exec([process.execPath, script('link-clients.ts'), kind, ...target], patience)
  return stdout.trim()
}

async function wrk(from: Host, address: string, connections: number) {
  const threads = connections > 1 ? '2' : '1'
  const options = ['-t', threads, '-c', String(connections), '-d', `${seconds}s`, '--latency']
  const { stdout } = await from.exec(['wrk', ...options, `http://${address}:${port}/`], patience)
  return { rate: /Requests\/sec:\s+(\S+)/.exec(stdout)?.[1] ?? '?', p99: /99%\s+(\S+)/.exec(stdout)?.[1] ?? '?' }
}
