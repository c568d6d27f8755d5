/**
 * Our agents and those of the Go system on the same paths, one after the other in labs that are alike:
 *
 *     EDGEMESH_GO_AGENT=/path/to/edgemesh-agent scripts/isolated node test/bench/go-peer.ts [rounds] [seconds] [LAN|relayed] [kind,...]
 *
 *     edge-a1 (client) -> pod on edge-a2      LAN neighbour
 *     edge-a1 (client) -> pod on edge-b1      relayed by cloud-1, because both routers choose ports at random
 *
 * `ours` are agents with their defaults where no route leads to the pods, so that all goes through the tunnel, and `confirmed`
 * the same agents with a route, once the neighbour has confirmed it: the kernel sends by itself. `plain` is the pod's own address,
 * from edge-a3, which has no agent.
 *
 * The Go system follows a real kube-apiserver, which runs beside ours as well. Needs wrk, the built executable, and what
 * test/envtest unpacks.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { stringify } from 'yaml'
import { statusOf } from '../e2e/support/site.ts'
import { admin, ControlPlane } from '../envtest/index.ts'
import { createLab, type Host, type Lab, serviceManifest } from '../lab/index.ts'
import { type Figure, median, reportFigures } from './support/figures.ts'
import { bulk, latencyBesideBulk, newConnections, requests, startLinkServers } from './support/loads.ts'
import { cpuSecondsOf } from './support/usage.ts'

const rounds = Number(process.argv[2] ?? 1)
const seconds = Number(process.argv[3] ?? 4)
const goAgent = process.env['EDGEMESH_GO_AGENT']
if (goAgent === undefined) throw new Error('EDGEMESH_GO_AGENT names no executable')
const allKinds = ['ours', 'confirmed', 'go'] as const
const kinds = allKinds.filter((kind) => process.argv[5]?.split(',').includes(kind) ?? true)
type Kind = (typeof allKinds)[number] | 'plain'

const port = 8000
const patienceMs = 90_000
/** A better path may be found after the first answer. */
const settleMs = 5_000
const nodes = ['cloud-1', 'edge-a1', 'edge-a2', 'edge-b1']
const targets = [
  { name: 'LAN', node: 'edge-a2', clusterIP: '10.96.7.2', bulkGoal: 1.7 },
  { name: 'relayed', node: 'edge-b1', clusterIP: '10.96.7.3', bulkGoal: 6 },
].filter(({ name }) => name === (process.argv[4] ?? name))

const results = new Map<string, Partial<Record<Kind, number[]>>>()
for (let round = 0; round < rounds; round++) {
  const measured = kinds.filter((kind) => kind !== 'confirmed' || targets.some(({ name }) => name === 'LAN'))
  for (const kind of round % 2 === 0 ? measured : measured.toReversed()) await measureKind(kind, round)
}
await reportFigures('go-peer', [...results].map(figureOf))

function figureOf([key, values]: [string, Partial<Record<Kind, number[]>>]): Figure {
  const [name = '', unit = ''] = key.split('|')
  const ratio = targets.find((target) => name.startsWith(target.name) && unit === 'Gbit/s')?.bulkGoal
  const isCompared = values.ours !== undefined && values.go !== undefined
  const goal = ratio === undefined || !isCompared ? {} : { goal: { of: 'ours', against: 'go', atLeast: ratio } }
  const isCost = unit === 's' || unit === 'ms' || unit === 's/GB' || unit === 'us/request'
  return {
    name,
    unit,
    isCost,
    values: Object.fromEntries(Object.entries(values).map(([kind, each]) => [kind, median(each)])),
    ...goal,
  }
}

function note(kind: Kind, name: string, unit: string, value: number): void {
  const key = `${name}|${unit}`
  const known = results.get(key) ?? {}
  known[kind] = [...(known[kind] ?? []), value]
  results.set(key, known)
  process.stdout.write(`${kind.padEnd(9)} ${name}: ${Number(value.toPrecision(4))} ${unit}\n`)
}

async function measureKind(kind: Kind, round: number): Promise<void> {
  await using lab = await createLab({
    cloud: { 'cloud-1': {} },
    lans: {
      a: { nat: 'randomising', nodes: { 'edge-a1': {}, 'edge-a2': { pods: ['web-edge-a2'] }, 'edge-a3': {} } },
      b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['web-edge-b1'] } } },
    },
  })
  await using plane = await ControlPlane.start({ host: lab.node('cloud-1') })
  for (const target of targets) await publish(lab, plane, target)
  const startedMs = performance.now()
  if (kind === 'confirmed') for (const from of ['edge-a1', 'edge-a3']) await routeToPods(lab, from)
  const pids = await (kind === 'go' ? startGo(lab, plane) : startOurs(lab))
  const client = lab.node('edge-a1')
  const measured = targets.filter(({ name }) => kind !== 'confirmed' || name === 'LAN')
  for (const { name, clusterIP } of measured) {
    await untilAnswered(client, clusterIP)
    note(kind, `${name}: first answer after the start`, 's', (performance.now() - startedMs) / 1_000)
  }
  await delay(settleMs)
  if (kind !== 'go') await assertPaths(client, kind)
  const ways = measured.map((target) => ({ kind, from: client, target, pids }))
  if (kind === 'confirmed') {
    const plain = { kind: 'plain', from: lab.node('edge-a3'), pids: [] } as const
    const clusterIP = lab.pod('web-edge-a2').address
    ways.push(...measured.map((target) => ({ ...plain, target: { ...target, clusterIP } })))
  }
  for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
    await measurePath(way.kind, way.from, way.target, way.pids)
  }
}

/** As a CNI plugin makes them. */
async function routeToPods(lab: Lab, from: string): Promise<void> {
  const argv = ['ip', 'route', 'add', `${lab.pod('web-edge-a2').address}/32`, 'via', lab.node('edge-a2').address]
  const { code, stderr } = await lab.node(from).exec(argv)
  if (code !== 0) throw new Error(stderr)
}

async function measurePath(
  kind: Kind,
  client: Host,
  { name, clusterIP }: (typeof targets)[number],
  pids: readonly number[],
): Promise<void> {
  await newConnections(client, clusterIP, port, 1)
  for (const count of [1, 8]) {
    const before = await cpuSecondsOf(pids)
    const startedMs = performance.now()
    const rate = await bulk(client, clusterIP, port, count, seconds)
    const gigabytes = (rate * (performance.now() - startedMs)) / 8_000
    note(kind, `${name}: ${count} stream${count === 1 ? '' : 's'}`, 'Gbit/s', rate)
    if (pids.length > 0) {
      const cpu = ((await cpuSecondsOf(pids)) - before) / gigabytes
      note(kind, `${name}: CPU of all agents, ${count} streams`, 's/GB', cpu)
    }
  }
  for (const count of [16, 200]) {
    const before = await cpuSecondsOf(pids)
    const rate = await requests(client, clusterIP, port, count, seconds)
    const cpu = ((await cpuSecondsOf(pids)) - before) / rate / seconds
    note(kind, `${name}: kept connections, ${count}`, 'requests/s', rate)
    if (pids.length > 0) note(kind, `${name}: CPU of all agents, kept connections, ${count}`, 'us/request', cpu * 1e6)
  }
  note(kind, `${name}: new connections`, '1/s', await newConnections(client, clusterIP, port, seconds))
  await measureLatency(kind, name, client, clusterIP)
}

async function measureLatency(kind: Kind, name: string, client: Host, address: string): Promise<void> {
  const { median: middle, p99 } = await latencyBesideBulk(client, address, port, seconds)
  note(kind, `${name}: a request each ms beside a stream, median`, 'ms', middle)
  note(kind, `${name}: a request each ms beside a stream, p99`, 'ms', p99)
}

async function publish(lab: Lab, plane: ControlPlane, { node, clusterIP }: (typeof targets)[number]): Promise<void> {
  const pod = lab.pod(`web-${node}`)
  await startLinkServers(pod, port)
  const metadata = { name: `web-${node}`, namespace: 'default' }
  const ports = [
    { name: 'http', port },
    { name: 'bulk', port: port + 1 },
  ]
  const subsets = [{ addresses: [{ ip: pod.address, nodeName: node }], ports }]
  const endpoints = { apiVersion: 'v1', kind: 'Endpoints', metadata, subsets }
  await plane.call('POST', '/api/v1/namespaces/default/services', { metadata, spec: { clusterIP, ports } })
  await plane.call('POST', '/api/v1/namespaces/default/endpoints', endpoints)
  const service = serviceManifest({ name: metadata.name, clusterIP, ports })
  await lab.writeManifest(`${node}.yaml`, `${service}---\n${stringify(endpoints)}`)
}

async function startOurs(lab: Lab): Promise<readonly number[]> {
  const pids = [(await lab.startServer('cloud-1')).pid]
  for (const name of nodes) if (name !== 'cloud-1') pids.push((await lab.startAgent(name)).pid)
  return pids
}

async function startGo(lab: Lab, plane: ControlPlane): Promise<readonly number[]> {
  const pids: number[] = []
  const kubeConfig = await plane.writeKubeconfig('go', { token: admin.token })
  const relay = { nodeName: 'cloud-1', advertiseAddress: [lab.node('cloud-1').address] }
  const edgeTunnel = {
    enable: true,
    listenPort: 20_006,
    relayNodes: [relay],
    psk: { enable: true, path: join(lab.dir, 'psk') },
  }
  for (const name of nodes) {
    const host = lab.node(name)
    const folder = join(host.dir, 'go')
    await mkdir(folder, { recursive: true })
    const file = join(folder, 'edgemesh-agent.yaml')
    const modules = { edgeProxy: { enable: true }, edgeTunnel }
    await writeFile(file, stringify({ kubeAPIConfig: { kubeConfig, contentType: 'application/json' }, modules }))
    const command = `cd ${folder} && exec ${goAgent} --config-file ${file}`
    const started = host.spawn(['sh', '-c', command], { env: { NODE_NAME: name, NAMESPACE: 'kubeedge' } })
    await delay(name === 'cloud-1' ? 3_000 : 500)
    if (started.exit !== undefined) throw new Error(started.output())
    pids.push(started.pid)
  }
  return pids
}

async function untilAnswered(client: Host, clusterIP: string): Promise<void> {
  const giveUpAt = performance.now() + patienceMs
  while (performance.now() < giveUpAt) {
    const { code } = await client.exec(['curl', '-sS', '--max-time', '3', `http://${clusterIP}:${port}/`])
    if (code === 0) return
    await delay(200)
  }
  throw new Error(`${clusterIP} does not answer within ${patienceMs} ms`)
}

/** Shows the paths of the tunnel, and makes sure that it is in use, or not, as the contender's name says. */
async function assertPaths(client: Host, kind: Kind): Promise<void> {
  const { tunnel, proxy } = await statusOf(client)
  for (const { name, path } of tunnel?.peers ?? []) process.stdout.write(`path to ${name}: ${JSON.stringify(path)}\n`)
  if (!targets.some(({ name }) => name === 'LAN')) return
  const reach = proxy?.reachability.nodes.find(({ node }) => node === 'edge-a2')
  if (reach?.direct !== (kind === 'confirmed' ? 1 : 0)) throw new Error(`edge-a2: ${JSON.stringify(reach)}`)
}
