/**
 * What a Service costs on the node of its endpoint: TCP throughput with 1 and 8 streams (iperf3), requests a second
 * over kept connections, and new connections a second (wrk against nginx), each to the pod itself and through the
 * Service, in turns within every round. Prints medians and their ratio. Needs iperf3,
 * nginx and wrk:
 * `scripts/isolated scripts/with-node test/bench/same-node.ts [rounds] [seconds]`.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import type { ProxyScene } from '../e2e/service-proxy-process.ts'
import { createLab, type Host } from '../lab/index.ts'
import { type Figure, median, reportFigures } from './support/figures.ts'

const rounds = Number(process.argv[2] ?? 5)
const seconds = Number(process.argv[3] ?? 3)
const clusterIP = '10.96.0.10'
const script = resolve(import.meta.dirname, '../e2e/service-proxy-process.ts')

interface Measure {
  readonly name: string
  readonly unit: string
  /** Lower is better, as latencies are. */
  readonly isCost?: boolean
  run(client: Host, address: string): Promise<readonly number[]>
}

const measures: readonly (Measure & { readonly names: readonly string[] })[] = [
  throughput(1),
  throughput(8),
  requests('kept connections', []),
  requests('new connections', ['-H', 'Connection: close']),
]

await using lab = await createLab({
  lans: {
    a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client', 'other'], bridgeNf: true } } },
  },
})
const [node, web] = [lab.node('edge-a1'), lab.pod('web')]
await startServers(web)
await startService()

const results = new Map<string, number[]>()
for (let round = 0; round < rounds; round++) {
  // Each way has a client of its own: connections to one endpoint from one address share its 28,000 ports, closed ones
  // included, and the kernel gives up finding a free one for whichever way comes second.
  const ways = [
    { way: 'direct', address: web.address, client: lab.pod('other') },
    { way: 'service', address: clusterIP, client: lab.pod('client') },
  ]
  for (const measure of measures) {
    // Whoever is first in one round is last in the next.
    for (const { way, address, client } of round % 2 === 0 ? ways : ways.toReversed()) {
      const values = await measure.run(client, address)
      values.forEach((value, at) => {
        const key = `${measure.names[at]} ${way}`
        results.set(key, [...(results.get(key) ?? []), value])
      })
    }
  }
}
const figures: Figure[] = measures.flatMap(({ names }) =>
  names.map((name, at) => {
    const isCost = name.endsWith('ms')
    const values = { direct: medianOf(`${name} direct`), service: medianOf(`${name} service`) }
    const bound = isCost ? { atMost: 1.2 } : { atLeast: at === 0 && name.includes('Gbit/s') ? 0.95 : 0.9 }
    const [what = name, unit = ''] = name.split(', ')
    return { name: what, unit, isCost, values, goal: { of: 'service', against: 'direct', ...bound } }
  }),
)
await reportFigures('same-node', figures)

function medianOf(key: string): number {
  return median(results.get(key) ?? [])
}

function throughput(streams: number) {
  const name = `${streams} stream${streams === 1 ? '' : 's'}, Gbit/s`
  return {
    name,
    names: [name],
    unit: 'Gbit/s',
    async run(from: Host, address: string): Promise<readonly number[]> {
      const argv = ['iperf3', '-c', address, '-t', String(seconds), '-P', String(streams), '--json']
      const { stdout, stderr, code } = await from.exec(argv, { timeoutMs: seconds * 1_000 + 30_000 })
      if (code !== 0) throw new Error(`iperf3 to ${address}: ${stdout}${stderr}`)
      const report = JSON.parse(stdout) as {
        readonly end: { readonly sum_received: { readonly bits_per_second: number } }
      }
      return [report.end.sum_received.bits_per_second / 1e9]
    },
  }
}

function requests(kind: string, flags: readonly string[]) {
  return {
    name: kind,
    names: [`${kind}, requests/s`, `${kind}, p99 ms`],
    unit: '1/s',
    async run(from: Host, address: string): Promise<readonly number[]> {
      const url = `http://${address}:8080/`
      const argv = ['wrk', '-t', '1', '-c', '16', '-d', `${seconds}s`, '--latency', ...flags, url]
      const { stdout, stderr, code } = await from.exec(argv, { timeoutMs: seconds * 1_000 + 30_000 })
      if (code !== 0) throw new Error(`wrk to ${url}: ${stdout}${stderr}`)
      const rate = Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
      const [, p99 = '', unit = ''] = /99%\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? []
      return [rate, Number(p99) * ({ us: 0.001, ms: 1, s: 1_000 }[unit] ?? Number.NaN)]
    },
  }
}

async function startServers(host: Host): Promise<void> {
  const dir = join(host.dir, 'nginx')
  await mkdir(dir, { recursive: true })
  const file = join(dir, 'nginx.conf')
  const lines = [
    'daemon off; worker_processes 1; error_log stderr;',
    `pid ${dir}/pid;`,
    'events { worker_connections 4096; }',
    'http { access_log off; keepalive_requests 1000000000;',
    `client_body_temp_path ${dir}; proxy_temp_path ${dir}; fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir};`,
    'server { listen 8080 backlog=4096; location / { return 200 "web\\n"; } } }',
  ]
  await writeFile(file, lines.join('\n'))
  host.spawn(['nginx', '-c', file])
  host.spawn(['iperf3', '-s'])
}

async function startService(): Promise<void> {
  const file = join(node.dir, 'scene.json')
  const serviceOn = (port: number) => ({
    name: `port-${port}`,
    clusterIP,
    port,
    backends: [{ node: 'edge-a1', address: web.address, port }],
  })
  const scene: ProxyScene = { nodeName: 'edge-a1', services: [serviceOn(8080), serviceOn(5201)] }
  await writeFile(file, JSON.stringify(scene))
  const running = node.spawn([process.execPath, script, file])
  await running.waitForLine(/^ready/, 60_000)
}
