/**
 * One flow over a long line, through the tunnel and without: 50 ms round trip and 0.1 % loss each way, with the kernel's
 * older congestion control (cubic, or reno where a namespace may not choose that), and with bbr where it is there. Chance decides much of such a flow's rate, so the
 * medians of several turns are compared: `scripts/isolated node test/bench/long-line.ts [rounds] [seconds]`. Needs gcc and
 * the built executable.
 *
 *     edge-a1 -- far0 ==[ 25 ms, loses 1 of 1,000 ]== far0 -- edge-a2 -> pod
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import {
  createLab,
  type ExecResult,
  endpointSliceManifest,
  type Host,
  serviceManifest,
  startLongLine,
} from '../lab/index.ts'
import { type Figure, median, reportFigures } from './support/figures.ts'
import { bulk, requests, startLinkServers } from './support/loads.ts'

const rounds = Number(process.argv[2] ?? 3)
const seconds = Number(process.argv[3] ?? 8)
const oneWayMs = 25
const lossPerMillion = 1000
const port = 8000
const clusterIP = '10.96.0.1'

await using lab = await createLab({
  cloud: { relay: {} },
  lans: { a: { nodes: { 'edge-a1': {}, 'edge-a2': { pods: ['web'] } } } },
})
const [near, far, pod] = [lab.node('edge-a1'), lab.node('edge-a2'), lab.pod('web')]
await startLinkServers(pod, port)
await startLinkServers(far, port)
const ports = [
  { name: 'http', port },
  { name: 'bulk', port: port + 1 },
]
const slice = endpointSliceManifest({
  serviceName: 'web',
  ports,
  endpoints: [{ address: pod.address, nodeName: far.name }],
})
await lab.writeManifest('web.yaml', `${serviceManifest({ name: 'web', clusterIP, ports })}---\n${slice}`)
await using _line = await joinOverLongLine()
await lab.startServer('relay')

const ways = { plain: far.address, tunnel: clusterIP }
const results = new Map<string, number[]>()
const controls = await congestionControls()
for (const congestion of controls) {
  for (const host of [near, far, pod]) await useCongestionControl(host, congestion)
  const agents = [await lab.startAgent('edge-a2'), await lab.startAgent('edge-a1')]
  await untilAnswered()
  for (let round = 0; round < rounds; round++) {
    const order = Object.entries(ways)
    for (const [way, address] of round % 2 === 0 ? order : order.toReversed()) {
      note(`${congestion} ${way}`, 1_000 * (await bulk(near, address, port, 1, seconds)))
      if (congestion === controls[0] && round === 0) note(`16 ${way}`, await requests(near, address, port, 16, 4))
    }
  }
  for (const agent of agents) await agent[Symbol.asyncDispose]()
}
const valuesOf = (of: string) => ({
  plain: median(results.get(`${of} plain`) ?? []),
  tunnel: median(results.get(`${of} tunnel`) ?? []),
})
const figures: Figure[] = controls.map((name) => ({
  name: `one flow, ${name}`,
  unit: 'Mbit/s',
  values: valuesOf(name),
  goal: { of: 'tunnel', against: 'plain', atLeast: 0.8 },
}))
figures.push({ name: 'kept connections, 16', unit: 'requests/s', values: valuesOf('16') })
await reportFigures('long-line', figures)

function note(key: string, value: number): void {
  results.set(key, [...(results.get(key) ?? []), value])
  process.stdout.write(`${key}: ${value.toFixed(1)}\n`)
}

async function joinOverLongLine(): Promise<AsyncDisposable> {
  const ends = [
    { host: near, device: 'far0' },
    { host: far, device: 'far0' },
  ] as const
  const line = await startLongLine(ends, { oneWayMs, lossPerMillion, dir: lab.dir })
  for (const [host, other] of [
    [near, far],
    [far, near],
  ] as const) {
    await host.exec(['ip', 'link', 'set', 'far0', 'up', 'mtu', '1500', 'txqueuelen', '10000'])
    const { code, stderr } = await host.exec(['ip', 'route', 'add', `${other.address}/32`, 'dev', 'far0'])
    if (code !== 0) throw new Error(stderr)
  }
  return line
}

/** Those of interest that a namespace may choose here. */
async function congestionControls(): Promise<readonly string[]> {
  const may = async (name: string) => (await setCongestionControl(far, name)).code === 0
  const older = (await may('cubic')) ? 'cubic' : 'reno'
  return (await may('bbr')) ? [older, 'bbr'] : [older]
}

/** For connections that are made from now on. */
async function useCongestionControl(host: Host, name: string): Promise<void> {
  const { code, stderr } = await setCongestionControl(host, name)
  if (code !== 0) throw new Error(stderr)
}

async function setCongestionControl(host: Host, name: string): Promise<ExecResult> {
  return await host.exec(['sysctl', '-w', `net.ipv4.tcp_congestion_control=${name}`])
}

async function untilAnswered(): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const { code } = await near.exec(['curl', '-sS', '--max-time', '5', `http://${clusterIP}:${port}/`])
    if (code === 0) {
      // The direct link may come after the first answer.
      await delay(3_000)
      return
    }
    await delay(200)
  }
  throw new Error('the Service does not answer')
}
