/**
 * What a Service costs datagrams of 64 bytes: to a pod of the same node without it, through rules of the kernel, through
 * the userspace proxy to a neighbour, and through the tunnel to a pod of that neighbour. `there and back` is 32 clients
 * with four datagrams under way each; `one way` is what of a flood arrives (iperf3):
 * `scripts/isolated node test/bench/udp.ts [rounds] [seconds]`. Needs iperf3 and the built executable.
 *
 *     other, client -> edge-a1 -> web (same node)
 *              client -> edge-a1 -> edge-a2, or its pod far
 */
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { ProxyScene, SceneService } from '../e2e/service-proxy-process.ts'
import { createLab, endpointSliceManifest, type Host, serviceManifest } from '../lab/index.ts'
import { median, reportFigures } from './support/figures.ts'

const rounds = Number(process.argv[2] ?? 3)
const seconds = Number(process.argv[3] ?? 3)
const port = 5201
const echoPort = 5300
const echo = join(import.meta.dirname, 'load', 'udp-echo.ts')
const scene = resolve(import.meta.dirname, '../e2e/service-proxy-process.ts')

await using lab = await createLab({
  cloud: { relay: {} },
  lans: {
    a: {
      nodes: {
        'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client', 'other'] },
        'edge-a2': { pods: ['far'] },
      },
    },
  },
})
const [node, web, neighbour, far] = [lab.node('edge-a1'), lab.pod('web'), lab.node('edge-a2'), lab.pod('far')]
for (const host of [web, neighbour, far]) {
  host.spawn(['iperf3', '-s'])
  await host.spawn([process.execPath, echo, 'server', String(echoPort)]).waitForLine(/^listening/, 30_000)
}
const results = new Map<string, number[]>()
await measureScene()
await measureTunnel()
const valuesOf = (what: string) =>
  Object.fromEntries(
    [...results]
      .filter(([key]) => key.startsWith(`${what}|`))
      .map(([key, values]) => [key.split('|')[1] ?? '', median(values)]),
  )
const goal = { of: 'service', against: 'direct', atLeast: 0.9 }
await reportFigures('udp', [
  { name: 'one way', unit: 'datagrams/s', values: valuesOf('one way'), goal },
  { name: 'there and back', unit: 'datagrams/s', values: valuesOf('there and back'), goal },
])

/** Without a tunnel: same node, and a neighbour through the userspace proxy. */
async function measureScene(): Promise<void> {
  const services = [
    ...servicesAt('10.96.0.10', 'here', 'edge-a1', web.address),
    ...servicesAt('10.96.0.11', 'there', 'edge-a2', neighbour.address),
  ]
  const file = join(node.dir, 'scene.json')
  await writeFile(file, JSON.stringify({ nodeName: 'edge-a1', services } satisfies ProxyScene))
  const running = node.spawn([process.execPath, scene, file])
  await running.waitForLine(/^ready/, 60_000)
  for (let round = 0; round < rounds; round++) {
    const ways = [
      { way: 'direct', from: lab.pod('other'), address: web.address },
      { way: 'service', from: lab.pod('client'), address: '10.96.0.10' },
      { way: 'userspace', from: lab.pod('client'), address: '10.96.0.11' },
    ]
    for (let turn = 0; turn < round % 3; turn++) ways.push(...ways.splice(0, 1))
    for (const { way, from, address } of ways) {
      if (way !== 'userspace') await note(`one way|${way}`, () => flood(from, address))
      await note(`there and back|${way}`, () => thereAndBack(from, address))
    }
  }
  await running[Symbol.asyncDispose]()
}

async function measureTunnel(): Promise<void> {
  const ports = [{ name: 'echo', port: echoPort, protocol: 'UDP' }] as const
  const slice = endpointSliceManifest({
    serviceName: 'far',
    ports,
    endpoints: [{ address: far.address, nodeName: 'edge-a2' }],
  })
  await lab.writeManifest(
    'far.yaml',
    `${serviceManifest({ name: 'far', clusterIP: '10.96.0.12', ports })}---\n${slice}`,
  )
  await lab.startServer('relay')
  await lab.startAgent('edge-a2')
  await lab.startAgent('edge-a1')
  // Until a datagram comes back, and the direct link stands.
  for (let attempt = 0; (await thereAndBack(lab.pod('client'), '10.96.0.12', 1)) === 0; attempt++) {
    if (attempt === 20) throw new Error('no datagram comes back through the tunnel')
  }
  await delay(4_000)
  for (let round = 0; round < rounds; round++) {
    await note('there and back|tunnel', () => thereAndBack(lab.pod('client'), '10.96.0.12'))
  }
}

function servicesAt(clusterIP: string, name: string, onNode: string, address: string): SceneService[] {
  return [
    { name: `${name}-control`, protocol: 'tcp', clusterIP, port, backends: [{ node: onNode, address, port }] },
    { name: `${name}-flood`, protocol: 'udp', clusterIP, port, backends: [{ node: onNode, address, port }] },
    {
      name: `${name}-echo`,
      protocol: 'udp',
      clusterIP,
      port: echoPort,
      backends: [{ node: onNode, address, port: echoPort }],
    },
  ]
}

async function note(key: string, measure: () => Promise<number>): Promise<void> {
  const value = await measure()
  results.set(key, [...(results.get(key) ?? []), value])
  process.stdout.write(`${key}: ${value.toFixed(0)}\n`)
}

async function flood(from: Host, address: string): Promise<number> {
  const argv = ['iperf3', '-c', address, '-p', String(port), '-u', '-b', '0', '-l', '64', '-t', String(seconds), '-J']
  const { stdout, code } = await from.exec(argv, { timeoutMs: seconds * 1_000 + 30_000 })
  if (code !== 0) throw new Error(stdout)
  const { end } = JSON.parse(stdout)
  return (end.sum.packets - end.sum.lost_packets) / end.sum.seconds
}

async function thereAndBack(from: Host, address: string, forSeconds = seconds): Promise<number> {
  const argv = [process.execPath, echo, 'client', address, String(echoPort), '32', '4', String(forSeconds)]
  const { stdout, stderr, code } = await from.exec(argv, { timeoutMs: forSeconds * 1_000 + 30_000 })
  if (code !== 0) throw new Error(stderr)
  return Number(stdout)
}
