/**
 * What each agent of a mesh sends and receives while nothing happens, and what that is in a day:
 * `scripts/isolated node test/bench/idle-mesh.ts [agents] [seconds] [peers] [sites|lan]`. One server; before it rests each agent
 * sends a request to so many others. An agent takes 100 MB of memory.
 *
 *     sites   ten sites behind NATs of all kinds, without routes between pods: what the tunnel costs
 *     lan     one LAN with routes to all pods, so that each agent confirms each other one: the most that confirming costs
 */
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { stringify } from 'yaml'
import { bodyFrom, eventually, quickStatusOf, writeService } from '../e2e/support/site.ts'
import { createLab, type Host, type LanSpec, type Nat, startTestServer, trafficOf } from '../lab/index.ts'
import { renderTable } from './support/usage.ts'

const count = Number(process.argv[2] ?? 50)
const seconds = Number(process.argv[3] ?? 120)
const peersEach = Number(process.argv[4] ?? 6)
const isLan = process.argv[5] === 'lan'
const siteNats = [
  'port-preserving',
  'randomising',
  'port-preserving',
  'randomising',
  'none',
  'port-preserving',
  'resetting',
  'double',
  'randomising',
  'no-inbound',
] as const satisfies readonly Nat[]
const port = 8080
const settleMs = 100_000

// In the first hour agents ask their router for a port, all others hear it, and it would be taken for what a day costs.
const lanModules = { edgeProxy: { hostRoutes: true }, edgeTunnel: { paths: { noPortMapping: true } } } as const
const config = { modules: isLan ? lanModules : ({ edgeProxy: { reachability: 'tunnel' } } as const) }
const names = Array.from({ length: count }, (_, at) => `edge-${at}`)
const podRangeOf = (at: number) => `10.244.${at + 1}.0/24`
const nodesOfLan = Object.fromEntries(
  names.map((name, at) => [name, { podBridge: podRangeOf(at), pods: [`web-${name}`] }]),
)
const sites = Object.fromEntries(
  siteNats.map((nat, site): [string, LanSpec] => {
    return [`site${site}`, { nat, nodes: names.filter((_, at) => at % siteNats.length === site) }]
  }),
)
await using lab = await createLab({ cloud: ['relay'], lans: isLan ? { lan: { nodes: nodesOfLan } } : sites })
if (isLan) {
  const nodes = names.map((name, at) =>
    stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { podCIDRs: [podRangeOf(at)] } }),
  )
  await lab.writeManifest('nodes.yaml', nodes.join('---\n'))
}
await lab.startServer('relay')
const clusterIp = (at: number) => `10.96.1.${at + 1}`
const pids: number[] = []
for (const [at, name] of names.entries()) {
  const host: Host = isLan ? lab.pod(`web-${name}`) : lab.node(name)
  await startTestServer(host, 'http', { port })
  await writeService(lab, `web-${name}`, clusterIp(at), [{ node: name, host, port }])
}
for (let at = 0; at < count; at += 4) {
  const starting = names.slice(at, at + 4).map((name) => lab.startAgent(name, config, { readyTimeoutMs: 90_000 }))
  pids.push(...(await Promise.all(starting)).map(({ pid }) => pid))
}
for (const [at, name] of names.entries()) {
  const others = Array.from({ length: peersEach }, (_, step) => (at + 1 + step * 7) % count)
  const requests = others.map((other) =>
    eventually(60_000, async () => void (await bodyFrom(lab.node(name), `http://${clusterIp(other)}/`))),
  )
  await Promise.all(requests)
}
await delay(settleMs)
const before = await Promise.all(pids.map((pid) => trafficOf(pid)))
await delay(seconds * 1000)
const after = await Promise.all(pids.map((pid) => trafficOf(pid)))

const rows = await Promise.all(
  names.map(async (name, at) => {
    const { tunnel, proxy } = await quickStatusOf(lab.node(name))
    const kinds = tunnel?.peers.map(({ path }) => path.kind) ?? []
    const [first, last] = [before[at], after[at]]
    const bytes = (last?.received ?? 0) + (last?.sent ?? 0) - (first?.received ?? 0) - (first?.sent ?? 0)
    const pathsOf = (kind: string) => String(kinds.filter((each) => each === kind).length)
    const perDay = (bytes * 86_400) / seconds / 1e6
    const nat = isLan ? 'one LAN' : (siteNats[at % siteNats.length] ?? '')
    const reached = proxy?.reachability.nodes.reduce((sum, { direct }) => sum + direct, 0) ?? 0
    return { perDay, cells: [name, nat, String(reached), ...['lan', 'direct', 'relayed'].map(pathsOf)] }
  }),
)
const header = ['agent', 'its NAT', 'confirmed', 'lan', 'direct', 'relayed', 'MB a day']
const table = rows.map(({ cells, perDay }) => [...cells, perDay.toFixed(2)])
const days = rows.map(({ perDay }) => perDay).sort((left, right) => left - right)
const mean = days.reduce((sum, day) => sum + day, 0) / days.length
process.stdout.write(`${renderTable([header, ...table])}\n`)
process.stdout.write(
  `${count} agents, ${seconds} s: mean ${mean.toFixed(2)}, least ${days[0]?.toFixed(2)}, most ${days.at(-1)?.toFixed(2)} MB a day\n`,
)
