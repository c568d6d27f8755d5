/**
 * The gateway beside nginx and haproxy as an HTTP proxy with kept connections, one process of each, before one nginx
 * that answers everything. By hand: `scripts/isolated node test/bench/gateway.ts [seconds] [requests for memory]`, with
 * nginx, haproxy and wrk installed and the executable built. Rates depend on who else uses the machine; requests per
 * second of the proxy's own processor time do so far less, and are what is compared.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { stringify } from 'yaml'
import { edgemeshBinary } from '../lab/edgemesh.ts'
import { reportFigures } from './support/figures.ts'
import { renderTable } from './support/usage.ts'

const seconds = Number(process.argv[2] ?? 5)
const memoryRequests = Number(process.argv[3] ?? 0)
const folder = mkdtempSync(join(tmpdir(), 'edgemesh-bench-'))
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text)
  return join(folder, name)
}
const running: ChildProcess[] = []
const start = (command: string, ...args: readonly string[]): ChildProcess => {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  running.push(child)
  return child
}

const nginxHead = (name: string) => `
daemon off; master_process off; worker_processes 1; pid ${folder}/${name}.pid; error_log stderr crit;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000;
  client_body_temp_path ${folder}; proxy_temp_path ${folder}; fastcgi_temp_path ${folder};
  uwsgi_temp_path ${folder}; scgi_temp_path ${folder};`
const backend = file(
  'backend.conf',
  `${nginxHead('backend')} server { listen 9000 backlog=4096; location / { return 200 "${'x'.repeat(512)}"; } } }`,
)
const nginx = file(
  'nginx.conf',
  `${nginxHead('nginx')}
  upstream backend { server 127.0.0.1:9000; keepalive 128; keepalive_requests 100000000; }
  server { listen 8001 backlog=4096; location / {
    proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
  } } }`,
)
const haproxy = file(
  'haproxy.cfg',
  `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
  option forwardfor
frontend in
  bind 127.0.0.1:8002
  default_backend out
backend out
  http-reuse always
  server one 127.0.0.1:9000
`,
)
const objects = [
  {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace: 'shop', name: 'web' },
    spec: { clusterIP: '10.96.0.9', ports: [{ name: 'http', port: 80 }] },
  },
  {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace: 'shop', name: 'web-1', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 9000 }],
    endpoints: [{ addresses: ['127.0.0.1'], nodeName: 'bench' }],
  },
  {
    apiVersion: 'networking.istio.io/v1beta1',
    kind: 'Gateway',
    metadata: { namespace: 'shop', name: 'front' },
    spec: { servers: [{ port: { number: 8003, name: 'http', protocol: 'HTTP' }, hosts: ['*'] }] },
  },
  {
    apiVersion: 'networking.istio.io/v1beta1',
    kind: 'VirtualService',
    metadata: { namespace: 'shop', name: 'web' },
    spec: { hosts: ['*'], gateways: ['front'], http: [{ route: [{ destination: { host: 'web' } }] }] },
  },
]
const gateway = file(
  'gateway.yml',
  stringify({
    kind: 'EdgeMeshGateway',
    nodeName: 'bench',
    stateDir: join(folder, 'state'),
    runtimeDir: join(folder, 'run'),
    kubeAPIConfig: { manifests: join(folder, 'manifests') },
    modules: { edgeGateway: { enable: true } },
  }),
)

interface Usage {
  readonly cpuSeconds: number
  readonly rssMegabytes: number
}

function usageOf(pid: number): Usage {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  const ticks = Number(fields[11]) + Number(fields[12])
  return { cpuSeconds: ticks / 100, rssMegabytes: Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024 }
}

async function ready(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    try {
      await (await fetch(`http://127.0.0.1:${port}/`)).text()
      return
    } catch {
      await delay(50)
    }
  }
  throw new Error(`nothing answers on port ${port}`)
}

interface Load {
  readonly requests: number
  readonly perSecond: number
  readonly p99: string
  readonly errors: string
}

function load(port: number, connections: number, forSeconds: number): Load {
  const args = ['-t', '1', '-c', String(connections), '-d', `${forSeconds}s`, '--latency', `http://127.0.0.1:${port}/`]
  const text = execFileSync('wrk', args, { encoding: 'utf8' })
  return {
    requests: Number(/(\d+) requests in/.exec(text)?.[1]),
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p99: /99%\s+(\S+)/.exec(text)?.[1] ?? '',
    errors: /(Socket errors.*|Non-2xx.*)/.exec(text)?.[1] ?? '',
  }
}

/** Asks 1,000 times a second over 20 kept connections, and gives the 99th percentile in milliseconds. */
async function p99AtThousand(port: number, forSeconds: number): Promise<number> {
  const { Agent, request } = await import('node:http')
  const agent = new Agent({ keepAlive: true, maxSockets: 20 })
  const times: number[] = []
  const one = () =>
    new Promise<void>((resolve) => {
      const askedAt = performance.now()
      const asked = request({ port, host: '127.0.0.1', agent }, (response) => {
        response.resume().on('end', () => {
          times.push(performance.now() - askedAt)
          resolve()
        })
      })
      asked.on('error', () => resolve())
      asked.end()
    })
  const startedAt = performance.now()
  const pending: Promise<void>[] = []
  for (let sent = 0; sent < forSeconds * 1000; ) {
    const due = Math.floor(performance.now() - startedAt)
    for (; sent < due; sent++) pending.push(one())
    await delay(1)
  }
  await Promise.all(pending)
  agent.destroy()
  return times.sort((left, right) => left - right)[Math.floor(times.length * 0.99)] ?? Number.NaN
}

try {
  execFileSync('mkdir', [join(folder, 'manifests')])
  file('manifests/all.yaml', objects.map((object) => stringify(object)).join('---\n'))
  start('nginx', '-c', backend)
  const proxies = [
    { name: 'nginx', port: 8001, child: start('nginx', '-c', nginx) },
    { name: 'haproxy', port: 8002, child: start('haproxy', '-db', '-f', haproxy) },
    { name: 'edgemesh gateway', port: 8003, child: start(edgemeshBinary(), 'gateway', '--config', gateway) },
  ]
  for (const { port } of proxies) await ready(port)
  for (const { port } of proxies) load(port, 32, 2)
  const rows: string[][] = []
  const perCore = new Map<string, number>()
  for (const { name, port, child } of proxies) {
    const pid = child.pid ?? 0
    const before = usageOf(pid)
    const { requests, perSecond, p99, errors } = load(port, 32, seconds)
    const after = usageOf(pid)
    const rate = requests / (after.cpuSeconds - before.cpuSeconds)
    perCore.set(name, rate)
    const calm = await p99AtThousand(port, seconds)
    rows.push([
      name,
      perSecond.toFixed(0),
      p99,
      rate.toFixed(0),
      (rate / (perCore.get('nginx') ?? Number.NaN)).toFixed(2),
      `${calm.toFixed(1)} ms`,
      `${after.rssMegabytes.toFixed(0)} MB`,
      errors,
    ])
  }
  const head = ['proxy', 'requests/s', 'p99, full load', 'requests/CPU s', '× nginx', 'p99, 1000/s', 'RSS', 'errors']
  process.stdout.write(`${renderTable([head, ...rows])}\n`)
  await reportFigures('gateway', [
    { name: 'kept connections, 32', unit: 'requests/CPU s', values: Object.fromEntries(perCore) },
  ])
  const pid = proxies[2]?.child.pid ?? 0
  for (let done = 0; done < memoryRequests; ) {
    done += load(8003, 32, 10).requests
    process.stdout.write(`after ${done} requests: ${usageOf(pid).rssMegabytes.toFixed(0)} MB\n`)
  }
} finally {
  for (const child of running) child.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
}
