/**
 * What a server takes while it relays much: `scripts/isolated node test/bench/relay-memory.ts [gigabytes] [agents]`, 10
 * and 10 when absent. Half of the agents send to a pod of one of the other half each, all at once; their routers choose
 * ports at random, so that the server has to relay. Needs the built executable.
 */
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { statusOf } from '../e2e/support/site.ts'
import { createLab, endpointSliceManifest, type Lab, type LanSpec, serviceManifest } from '../lab/index.ts'
import { reportFigures } from './support/figures.ts'
import { startLinkServers } from './support/loads.ts'
import { observedOn } from './support/observed.ts'
import { usageOf } from './support/usage.ts'

const gigabytes = Number(process.argv[2] ?? 10)
const agents = Number(process.argv[3] ?? 10)
const pairs = Math.floor(agents / 2)
const port = 8000
const lookEveryMs = 500
const settleMs = 5_000

const lans = Object.fromEntries(
  Array.from({ length: pairs * 2 }, (_, index): [string, LanSpec] => [
    `l${index}`,
    { nat: 'randomising', nodes: { [`node-${index}`]: index % 2 === 0 ? {} : { pods: [`web-${index}`] } } },
  ]),
)
await using lab = await createLab({ cloud: { relay: {} }, lans })
const server = observedOn(lab.node('relay'), 'server', (await lab.startServer('relay')).pid)
for (let pair = 0; pair < pairs; pair++) await addWeb(lab, pair)
for (let index = 0; index < pairs * 2; index++) await lab.startAgent(`node-${index}`)
for (let pair = 0; pair < pairs; pair++) await untilAnswered(pair)
await delay(settleMs)

const idle = await usageOf(server)
let most = idle.rss
const looking = new AbortController()
const watching = watchMemory()
const startedMs = performance.now()
await Promise.all(Array.from({ length: pairs }, (_, pair) => send(pair)))
const elapsed = (performance.now() - startedMs) / 1_000
looking.abort()
await watching
const after = await usageOf(server)
await delay(settleMs)
const later = await usageOf(server)
for (let pair = 0; pair < pairs; pair++) await showPath(pair)
const relayed = Math.max(1e-9, gigabytes)
await reportFigures('relay-memory', [
  {
    name: `resident, ${pairs * 2} idle agents`,
    unit: 'MB',
    values: { server: idle.rss / 1e6 },
    isCost: true,
    goal: { of: 'server', atMost: 120 },
  },
  {
    name: `resident at most, while ${gigabytes} GB are relayed`,
    unit: 'MB',
    values: { server: most / 1e6 },
    isCost: true,
  },
  { name: `resident ${settleMs / 1_000} s later`, unit: 'MB', values: { server: later.rss / 1e6 }, isCost: true },
  { name: 'relayed', unit: 'Gbit/s', values: { server: (gigabytes * 8) / elapsed } },
  {
    name: 'CPU of the server',
    unit: 's/GB',
    values: { server: (after.cpuSeconds - idle.cpuSeconds) / relayed },
    isCost: true,
  },
])

async function addWeb(into: Lab, pair: number): Promise<void> {
  const pod = into.pod(`web-${pair * 2 + 1}`)
  await startLinkServers(pod, port)
  const ports = [
    { name: 'http', port },
    { name: 'bulk', port: port + 1 },
  ]
  const endpoints = [{ address: pod.address, nodeName: `node-${pair * 2 + 1}` }]
  const slice = endpointSliceManifest({ serviceName: `web-${pair}`, ports, endpoints })
  const service = serviceManifest({ name: `web-${pair}`, clusterIP: addressOf(pair), ports })
  await into.writeManifest(`web-${pair}.yaml`, `${service}---\n${slice}`)
}

function addressOf(pair: number): string {
  return `10.96.0.${pair + 1}`
}

async function send(pair: number): Promise<void> {
  const megabytes = Math.ceil((gigabytes * 1_000) / pairs)
  const script = join(import.meta.dirname, 'load', 'link-clients.ts')
  const argv = [process.execPath, script, 'amount', addressOf(pair), String(port + 1), '1', String(megabytes)]
  const { code, stderr } = await lab.node(`node-${pair * 2}`).exec(argv, { timeoutMs: 600_000 })
  if (code !== 0) throw new Error(stderr)
}

async function watchMemory(): Promise<void> {
  while (!looking.signal.aborted) {
    most = Math.max(most, (await usageOf(server)).rss)
    await delay(lookEveryMs, undefined, { signal: looking.signal }).catch(() => {})
  }
}

async function untilAnswered(pair: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    const url = `http://${addressOf(pair)}:${port}/`
    if ((await lab.node(`node-${pair * 2}`).exec(['curl', '-sS', '--max-time', '5', url])).code === 0) return
    await delay(200)
  }
  throw new Error(`${addressOf(pair)} does not answer`)
}

async function showPath(pair: number): Promise<void> {
  const peers = (await statusOf(lab.node(`node-${pair * 2}`))).tunnel?.peers ?? []
  const peer = peers.find(({ name }) => name === `node-${pair * 2 + 1}`)
  process.stdout.write(`node-${pair * 2} -> ${peer?.name}: ${JSON.stringify(peer?.path)}\n`)
}
