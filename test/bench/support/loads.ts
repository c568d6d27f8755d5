/** Loads that benches put on a path of the lab; each waits for its end and gives what it measured. */
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { Host } from '../../lab/index.ts'

const patience = { timeoutMs: 120_000 }
const folder = join(import.meta.dirname, '..', 'load')

/** Answers requests on this port and takes bytes on the next. */
export async function startLinkServers(host: Host, port: number): Promise<void> {
  const argv = [process.execPath, join(folder, 'link-servers.ts'), host.address, String(port)]
  await host.spawn(argv).waitForLine(/^listening/, 30_000)
}

/** Gbit/s of so many connections that send to the port after this one. */
export async function bulk(from: Host, address: string, port: number, count: number, seconds: number): Promise<number> {
  return await linkClients(from, 'bulk', address, port + 1, count, seconds)
}

/** Connections a second, each for one request, so many at a time. */
export async function newConnections(from: Host, address: string, port: number, seconds: number): Promise<number> {
  return await linkClients(from, 'connect', address, port, 16, seconds)
}

/** Requests a second over kept connections. */
export async function requests(
  from: Host,
  address: string,
  port: number,
  connections: number,
  seconds: number,
): Promise<number> {
  const flags = ['-t', connections > 1 ? '2' : '1', '-c', String(connections), '-d', `${seconds}s`]
  const { stdout } = await from.exec(['wrk', ...flags, `http://${address}:${port}/`], patience)
  return Number(/Requests\/sec:\s+(\S+)/.exec(stdout)?.[1])
}

/** Milliseconds that half, and 99 of 100, answers take to a request each millisecond, while one connection sends all it can. */
export async function latencyBesideBulk(
  from: Host,
  address: string,
  port: number,
  seconds: number,
): Promise<{ readonly median: number; readonly p99: number }> {
  const background = bulk(from, address, port, 1, seconds + 2)
  await delay(1_000)
  const argv = [process.execPath, join(folder, 'steady-clients.ts'), address, String(port), String(seconds)]
  const { stdout } = await from.exec(argv, patience)
  await background
  const [middle = Number.NaN, p99 = Number.NaN] = stdout.trim().split(' ').map(Number)
  return { median: middle, p99 }
}

async function linkClients(
  from: Host,
  kind: 'bulk' | 'connect',
  address: string,
  port: number,
  count: number,
  seconds: number,
): Promise<number> {
  const argv = [join(folder, 'link-clients.ts'), kind, address, String(port), String(count), String(seconds)]
  const { stdout, stderr } = await from.exec([process.execPath, ...argv], patience)
  if (stderr !== '') process.stderr.write(`${kind} to ${address}: ${stderr.slice(0, 300)}\n`)
  return stdout === '' ? Number.NaN : Number(stdout)
}
