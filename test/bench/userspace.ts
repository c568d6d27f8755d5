/**
 * The userspace proxy against nginx's stream proxy, haproxy and no proxy at all, on loopback, in rotated rounds:
 *
 *     wrk, iperf3, paced requests ──> direct | nginx stream | haproxy | userspace proxy ──> nginx (HTTP), iperf3
 *
 * Prints medians and what the goals compare: keepalive requests/s, CPU seconds per GB, added p99 at 1,000 requests/s.
 * `node test/bench/userspace.ts [rounds]`; needs nginx with its stream module, haproxy, wrk and iperf3 (Debian:
 * nginx-light libnginx-mod-stream haproxy wrk iperf3).
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'
import { type Figure, median, reportFigures } from './support/figures.ts'

const run = promisify(execFile)
const wrkSeconds = 2
const ports = {
  http: 18_080,
  iperf: 18_081,
  nginxHttp: 18_082,
  nginxIperf: 18_083,
  own: 18_084,
  haproxyHttp: 18_085,
  haproxyIperf: 18_086,
}
const paths = {
  direct: { http: ['127.0.0.1', ports.http], iperf: ['127.0.0.1', ports.iperf] },
  nginx: { http: ['127.0.0.1', ports.nginxHttp], iperf: ['127.0.0.1', ports.nginxIperf] },
  haproxy: { http: ['127.0.0.1', ports.haproxyHttp], iperf: ['127.0.0.1', ports.haproxyIperf] },
  userspace: { http: ['127.0.0.2', ports.own], iperf: ['127.0.0.3', ports.own] },
} as const
type Path = keyof typeof paths

const nginxConfig = (dir: string) => `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; worker_processes 1; pid ${dir}/nginx.pid; error_log ${dir}/error.log;
events { worker_connections 4096; }
stream {
  server { listen 127.0.0.1:${ports.nginxHttp}; proxy_pass 127.0.0.1:${ports.http}; proxy_socket_keepalive on; }
  server { listen 127.0.0.1:${ports.nginxIperf}; proxy_pass 127.0.0.1:${ports.iperf}; }
}
`
const haproxyConfig = `global
  nbthread 1
  maxconn 4096
defaults
  mode tcp
  timeout client 60s
  timeout server 60s
  timeout connect 5s
listen http
  bind 127.0.0.1:${ports.haproxyHttp}
  server one 127.0.0.1:${ports.http}
listen iperf
  bind 127.0.0.1:${ports.haproxyIperf}
  server one 127.0.0.1:${ports.iperf}
`
const backendConfig = (dir: string) => `
daemon off; worker_processes 1; pid ${dir}/backend.pid; error_log ${dir}/backend.log;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path ${dir}; proxy_temp_path ${dir}; fastcgi_temp_path ${dir}; uwsgi_temp_path ${dir}; scgi_temp_path ${dir};
  server { listen 127.0.0.1:${ports.http}; location / { return 200 "ok"; } }
}
`

const dir = mkdtempSync(join(tmpdir(), 'em-bench-'))
const children: ChildProcess[] = []

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  children.push(child)
  return child
}

/** CPU seconds of a process and its children so far. */
function cpuSeconds(pid: number): number {
  const pids = [
    pid,
    ...readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number),
  ]
  return pids.reduce((sum, each) => {
    const fields = readFileSync(`/proc/${each}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ')
    return sum + (Number(fields[11]) + Number(fields[12])) / 100
  }, 0)
}

async function requestsPerSecond([host, port]: readonly [string, number]): Promise<number> {
  const { stdout } = await run('wrk', ['-t1', '-c16', `-d${wrkSeconds}s`, `http://${host}:${port}/`])
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(stdout)?.[1])
}

async function throughput(
  [host, port]: readonly [string, number],
  streams: number,
): Promise<{ gbit: number; gigabytes: number }> {
  const { stdout } = await run('iperf3', ['-c', host, '-p', String(port), '-t', '2', '-P', String(streams), '-J'])
  const received = JSON.parse(stdout).end.sum_received
  return { gbit: received.bits_per_second / 1e9, gigabytes: received.bytes / 1e9 }
}

/** p99 in ms of 1,000 requests a second over 16 connections. */
async function pacedP99([host, port]: readonly [string, number]): Promise<number> {
  const sockets = await Promise.all(
    Array.from({ length: 16 }, async () => {
      const socket = connect({ host, port, noDelay: true })
      await once(socket, 'connect')
      return socket
    }),
  )
  const latencies: number[] = []
  const startedMs = performance.now()
  const ask = async (socket: Socket, dueMs: number) => {
    await delay(Math.max(0, dueMs - performance.now()))
    const sentMs = performance.now()
    socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n')
    await once(socket, 'data')
    latencies.push(performance.now() - sentMs)
  }
  const loops = sockets.map(async (socket, index) => {
    for (let count = 0; count < 125; count++) await ask(socket, startedMs + count * 16 + index)
    socket.destroy()
  })
  await Promise.all(loops)
  latencies.sort((left, right) => left - right)
  return latencies[Math.floor(latencies.length * 0.99)] ?? Number.NaN
}

const results = new Map<string, number[]>()
const note = (name: string, value: number) => results.set(name, [...(results.get(name) ?? []), value])

async function measure(path: Path, pid: number | undefined): Promise<void> {
  const { http, iperf } = paths[path]
  const busyBefore = pid === undefined ? 0 : cpuSeconds(pid)
  const rate = await requestsPerSecond(http)
  note(`${path} requests/s`, rate)
  if (pid !== undefined) note(`${path} CPU us/request`, ((cpuSeconds(pid) - busyBefore) * 1e6) / rate / wrkSeconds)
  note(`${path} p99 ms at 1,000/s`, await pacedP99(http))
  for (const streams of [1, 8]) {
    const before = pid === undefined ? 0 : cpuSeconds(pid)
    const { gbit, gigabytes } = await throughput(iperf, streams)
    note(`${path} Gbit/s, ${streams} streams`, gbit)
    if (pid !== undefined) note(`${path} CPU s/GB, ${streams} streams`, (cpuSeconds(pid) - before) / gigabytes)
  }
}

async function accepts([host, port]: readonly [string, number]): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect({ host, port })
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
      socket.once('connect', () => socket.destroy())
    })
    if (isOpen) return
    await delay(50)
  }
  throw new Error(`nobody listens on ${host}:${port}`)
}

try {
  writeFileSync(join(dir, 'nginx.conf'), nginxConfig(dir))
  writeFileSync(join(dir, 'backend.conf'), backendConfig(dir))
  start('nginx', ['-c', join(dir, 'backend.conf')])
  start('iperf3', ['-s', '-p', String(ports.iperf)])
  const nginx = start('nginx', ['-c', join(dir, 'nginx.conf')])
  writeFileSync(join(dir, 'haproxy.cfg'), haproxyConfig)
  const haproxy = start('haproxy', ['-db', '-f', join(dir, 'haproxy.cfg')])
  const proxy = join(import.meta.dirname, 'support', 'userspace-proxy.ts')
  const routes = { '127.0.0.2': ports.http, '127.0.0.3': ports.iperf }
  const own = start(process.execPath, [proxy, String(ports.own), JSON.stringify(routes)])
  for (const { http } of Object.values(paths)) await accepts(http)
  const pids = { direct: undefined, nginx: nginx.pid, haproxy: haproxy.pid, userspace: own.pid }
  const order: Path[] = ['direct', 'nginx', 'haproxy', 'userspace']
  for (let round = 0; round < Number(process.argv[2] ?? 3); round++) {
    for (const path of order) await measure(path, pids[path])
    order.push(order.shift() as Path)
  }
  await reportFigures('userspace', figures())
} finally {
  for (const child of children) child.kill()
  rmSync(dir, { recursive: true, force: true })
}

function figures(): readonly Figure[] {
  const valuesOf = (name: string) =>
    Object.fromEntries(
      Object.keys(paths)
        .map((path) => [path, median(results.get(`${path} ${name}`) ?? [])] as const)
        .filter(([, value]) => !Number.isNaN(value)),
    )
  const against = { of: 'userspace', against: 'nginx' }
  const added = { of: 'userspace', against: 'direct', isDifference: true, atMost: 0.5 }
  return [
    {
      name: 'kept connections, 16',
      unit: 'requests/s',
      values: valuesOf('requests/s'),
      goal: { ...against, atLeast: 0.8 },
    },
    { name: 'CPU of the proxy', unit: 'us/request', values: valuesOf('CPU us/request'), isCost: true },
    { name: 'p99 at 1,000 requests/s', unit: 'ms', values: valuesOf('p99 ms at 1,000/s'), isCost: true, goal: added },
    ...[1, 8].flatMap((streams): Figure[] => [
      {
        name: `${streams} stream${streams === 1 ? '' : 's'}`,
        unit: 'Gbit/s',
        values: valuesOf(`Gbit/s, ${streams} streams`),
      },
      {
        name: `CPU of the proxy, ${streams} stream${streams === 1 ? '' : 's'}`,
        unit: 's/GB',
        values: valuesOf(`CPU s/GB, ${streams} streams`),
        isCost: true,
        goal: { ...against, atMost: 2 },
      },
    ]),
  ]
}
