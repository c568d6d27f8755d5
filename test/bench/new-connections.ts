/**
 * What one new connection costs in CPU, at each end and beside yardsticks on the same machine and in the same run:
 *
 *     scripts/isolated node test/bench/new-connections.ts [rounds] [seconds] [contender,...]
 *
 *     client-N -> edge-a1 = edge-a2 -> web     LAN: the tunnel, two plain splices of Node, two of nginx
 *     client-N -> edge-a1 = server = edge-b1   relayed
 *     client-N -> edge-a1 - edge-a2            confirmed: a neighbour's own address, to which the kernel sends by itself;
 *                                              direct: the same without a Service
 *
 * Each connection carries one request, and the server ends it first. Contenders take turns; the CPU is that of the named
 * processes alone, and what it is divided by is what the client got answered. Needs wrk, nginx and the built executable.
 */
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { eventually, statusOf } from '../e2e/support/site.ts'
import { createLab, endpointSliceManifest, type Host, type LabProcess, serviceManifest } from '../lab/index.ts'
import { type Figure, median, reportFigures } from './support/figures.ts'
import { cpuSecondsOf } from './support/usage.ts'

const rounds = Number(process.argv[2] ?? 3)
const seconds = Number(process.argv[3] ?? 3)
const only = process.argv[4]?.split(',')
const port = 8000
const streamModule = '/usr/lib/nginx/modules/ngx_stream_module.so'
const warmUpSeconds = 8
const settleMs = 5_000

const clients = Array.from({ length: 6 }, (_, index) => `client-${index + 1}`)

await using lab = await createLab({
  cloud: { relay: {} },
  lans: {
    a: {
      nodes: {
        'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web-edge-a1', ...clients] },
        'edge-a2': { pods: ['web-edge-a2'] },
      },
    },
    b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['web-edge-b1'] } } },
  },
})
const nodes = ['edge-a1', 'edge-a2', 'edge-b1'] as const
const [a1, a2] = [lab.node('edge-a1'), lab.node('edge-a2')]
for (const [index, name] of nodes.entries()) await addWeb(name, `10.96.0.${index + 1}`)
const hostPort = 8300
// As CNI plugins that connect nodes: behind one address the clients would run out of ports.
await run(a1, 'nft', 'delete', 'table', 'ip', 'lab_cni')
await run(a2, 'ip', 'route', 'add', '10.244.0.0/24', 'via', a1.address)
await startWeb(a2, hostPort)
await publish('host', '10.96.0.4', { address: a2.address, nodeName: 'edge-a2', targetPort: hostPort })
const server = await lab.startServer('relay')
const agents: LabProcess[] = []
for (const name of nodes) agents.push(await lab.startAgent(name))
const [agentA1, agentA2, agentB1] = agents as [LabProcess, LabProcess, LabProcess]

/** Somewhere to connect to, and who works for it. */
interface Way {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly workers: Readonly<Record<string, readonly number[]>>
}

await eventually(20_000, async () => {
  const nodes = (await statusOf(a1)).proxy?.reachability.nodes ?? []
  assert.equal(nodes.find(({ node }) => node === 'edge-a2')?.direct, 1)
})

const plain = [await startPlain(a2, lab.pod('web-edge-a2').address, port), await startPlain(a1, a2.address, 8100)]
const nginx = [
  await startNginxStream(a2, `${lab.pod('web-edge-a2').address}:${port}`),
  await startNginxStream(a1, `${a2.address}:8200`),
]
const ways: readonly Way[] = [
  { name: 'LAN', address: '10.96.0.2', port, workers: { near: [agentA1.pid], far: [agentA2.pid] } },
  {
    name: 'relayed',
    address: '10.96.0.3',
    port,
    workers: { near: [agentA1.pid], far: [agentB1.pid], server: [server.pid] },
  },
  { name: 'confirmed', address: '10.96.0.4', port, workers: { near: [agentA1.pid], far: [agentA2.pid] } },
  { name: 'direct', address: a2.address, port: hostPort, workers: {} },
  {
    name: 'plain Node',
    address: a1.address,
    port: 8100,
    workers: { near: [plain[1]?.pid ?? 0], far: [plain[0]?.pid ?? 0] },
  },
  { name: 'nginx', address: a1.address, port: 8200, workers: { near: nginx[1] ?? [], far: nginx[0] ?? [] } },
].filter(({ name }) => only === undefined || only.includes(name))

// Clients end some connections first, and would run out of ports.
for (const name of clients) await lab.pod(name).exec(['sysctl', '-qw', 'net.ipv4.tcp_tw_reuse=1'])

const results = new Map<string, Map<string, number[]>>()
for (const [index, way] of ways.entries()) await measure(way, lab.pod(clients[index] ?? ''), 1)
await delay(settleMs)
for (const [index, way] of ways.entries()) await measure(way, lab.pod(clients[index] ?? ''), warmUpSeconds)
results.clear()
for (let round = 0; round < rounds; round++) {
  const turns = [...ways.entries()]
  for (const [index, way] of round % 2 === 0 ? turns : turns.toReversed()) {
    await measure(way, lab.pod(clients[index] ?? ''), seconds)
  }
}
await reportFigures('new-connections', figures())

async function measure({ name, address, port: at, workers }: Way, client: Host, time: number): Promise<void> {
  const before = await Promise.all(Object.values(workers).map(cpuSecondsOf))
  const argv = ['wrk', '-t', '1', '-c', '16', '-d', `${time}s`, '-H', 'Connection: close', `http://${address}:${at}/`]
  const { stdout, stderr } = await client.exec(argv, { timeoutMs: time * 1_000 + 30_000 })
  const count = Number(/(\d+) requests in/.exec(stdout)?.[1])
  const failed = /Socket errors: .*|Non-2xx.*/.exec(stdout)?.[0]
  if (failed !== undefined || stderr !== '') process.stderr.write(`${name}: ${failed ?? stderr}\n`)
  note('new connections|1/s', name, Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1]))
  const after = await Promise.all(Object.values(workers).map(cpuSecondsOf))
  Object.keys(workers).forEach((role, index) => {
    note(`CPU of ${role}|us/connection`, name, (((after[index] ?? 0) - (before[index] ?? 0)) * 1e6) / count)
  })
}

function note(figure: string, contender: string, value: number): void {
  const values = results.get(figure) ?? new Map<string, number[]>()
  values.set(contender, [...(values.get(contender) ?? []), value])
  results.set(figure, values)
}

function figures(): readonly Figure[] {
  return [...results].map(([key, values]) => {
    const [name = '', unit = ''] = key.split('|')
    const medians = Object.fromEntries([...values].map(([contender, each]) => [contender, median(each)]))
    return { name, unit, isCost: unit !== '1/s', values: medians }
  })
}

async function addWeb(node: string, clusterIP: string): Promise<void> {
  const pod = lab.pod(`web-${node}`)
  await startWeb(pod, port)
  await publish(node, clusterIP, { address: pod.address, nodeName: node, targetPort: port })
}

async function run(host: Host, ...argv: readonly string[]): Promise<void> {
  const { code, stderr } = await host.exec(argv)
  assert.equal(code, 0, stderr)
}

async function startWeb(host: Host, at: number): Promise<void> {
  const location = 'location / { return 200 "ok"; }'
  await startNginx(host, `http { access_log off; server { listen ${at} backlog=4096; ${location} } }`)
}

async function publish(
  name: string,
  clusterIP: string,
  { targetPort, ...endpoint }: { readonly address: string; readonly nodeName: string; readonly targetPort: number },
): Promise<void> {
  const ports = [{ name: 'http', port, targetPort }]
  const slice = endpointSliceManifest({ serviceName: name, ports, endpoints: [endpoint] })
  await lab.writeManifest(`${name}.yaml`, [serviceManifest({ name, clusterIP, ports }), slice].join('---\n'))
}

async function startPlain(host: Host, upstream: string, upstreamPort: number): Promise<LabProcess> {
  const source = `
    const { connect, createServer } = require('node:net')
    createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      const other = connect({ host: '${upstream}', port: ${upstreamPort}, allowHalfOpen: true, noDelay: true })
      other.on('error', () => socket.destroy())
      socket.on('error', () => other.destroy())
      socket.pipe(other).pipe(socket)
    }).listen({ host: '${host.address}', port: 8100, backlog: 4096 }, () => console.log('listening'))`
  const started = host.spawn([process.execPath, '--max-semi-space-size=1', '-e', source])
  await started.waitForLine(/^listening/, 9_000)
  return started
}

async function startNginxStream(host: Host, upstream: string): Promise<readonly number[]> {
  const block = `stream { server { listen ${host.address}:8200 backlog=4096; proxy_pass ${upstream}; tcp_nodelay on; } }`
  const { pid } = await startNginx(host, block)
  return [pid]
}

async function startNginx(host: Host, block: string): Promise<LabProcess> {
  const dir = join(host.dir, 'nginx')
  await mkdir(dir, { recursive: true })
  const folders = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((kind) => `${kind}_temp_path ${dir};`)
    .join(' ')
  const lines = [
    ...(block.startsWith('stream') ? [`load_module ${streamModule};`] : []),
    `daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;`,
    'events { worker_connections 4096; }',
    block.replace('http {', `http { ${folders}`),
  ]
  const file = join(dir, `${block.slice(0, 6).trim()}.conf`)
  await writeFile(file, lines.join('\n'))
  return host.spawn(['nginx', '-c', file])
}
