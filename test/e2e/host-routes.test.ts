/**
 * Routes to the pods of LAN neighbours, where no CNI plugin makes any.
 *
 *     wan ──┬── relay (server)
 *        router-a
 *           │ 192.168.1.0/24
 *      ┌────┴──────────┬──────────────────┐
 *   edge-a1         edge-a2            edge-a3           edge-b1: only a Node, with the range of edge-a3
 *   10.244.1.0/24   10.244.2.0/24      10.244.3.0/24
 *   client-a1       web-a2             web-a3
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { stringify } from 'yaml'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import { edgemesh, eventually, statusOf } from './support/site.ts'

const services = { 'web-a2': '10.96.7.1', 'web-a3': '10.96.7.2' } as const
type ServiceName = keyof typeof services
const ranges = {
  'edge-a1': '10.244.1.0/24',
  'edge-a2': '10.244.2.0/24',
  'edge-a3': '10.244.3.0/24',
  'edge-b1': '10.244.3.0/24',
} as const
const foreign = '10.99.0.0/16'
const ourRoute = `${ranges['edge-a2']} via 192.168.1.12 dev eth0 metric 20006`
const clash = `${ranges['edge-a3']} clashes with the pods of edge-b1`

let lab: Lab
let edge: Host
let agent: LabProcess
before(async () => {
  const nodes = {
    'edge-a1': { podBridge: ranges['edge-a1'], pods: ['client-a1'] },
    'edge-a2': { podBridge: ranges['edge-a2'], pods: ['web-a2'] },
    'edge-a3': { podBridge: ranges['edge-a3'], pods: ['web-a3'] },
  }
  lab = await createLab({ cloud: ['relay'], lans: { a: { subnet: '192.168.1.0/24', nodes } } })
  edge = lab.node('edge-a1')
  const objects = Object.entries(ranges).map(([name, podCIDR]) =>
    stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name }, spec: { podCIDR, podCIDRs: [podCIDR] } }),
  )
  await lab.writeManifest('nodes.yaml', objects.join('---\n'))
  for (const [name, clusterIP] of Object.entries(services)) {
    await startTestServer(lab.pod(name), 'http', { port: 8080, name })
    const ports = [{ name: 'http', port: 80, targetPort: 8080 }]
    const endpoints = [{ address: lab.pod(name).address, nodeName: name.replace('web', 'edge') }]
    const slice = endpointSliceManifest({ serviceName: name, ports, endpoints })
    await lab.writeManifest(`${name}.yaml`, `${serviceManifest({ name, clusterIP, ports })}---\n${slice}`)
  }
  await run(edge, 'ip', 'route', 'add', foreign, 'via', lab.node('edge-a3').address)
  await lab.startServer('relay')
  const others = ['edge-a2', 'edge-a3'].map((node) => lab.startAgent(node, configOf({ hostRoutes: true })))
  agent = await lab.startAgent('edge-a1')
  await Promise.all(others)
})
after(() => lab?.[Symbol.asyncDispose]())

const configOf = (edgeProxy: { readonly hostRoutes: boolean; readonly onStop?: 'keep' | 'remove' }) => ({
  modules: { edgeProxy },
})

async function run(host: Host, ...command: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await host.exec([...command])
  assert.equal(code, 0, stderr)
  return stdout.trim()
}

const ownRoutes = async () => (await run(edge, 'ip', '-4', 'route', 'show', 'proto', '96')).replaceAll(/ +$/gm, '')

async function assertForeignRoute(): Promise<void> {
  assert.match(await run(edge, 'ip', '-4', 'route', 'show', foreign), /^10\.99\.0\.0\/16 via 192\.168\.1\.13 /)
}

async function bodyOf(service: ServiceName): Promise<string> {
  return await run(lab.pod('client-a1'), 'curl', '-sS', '--max-time', '5', `http://${services[service]}/`)
}

/** Where the kernel of edge-a1 sends connections to a Service. */
async function slotOf(service: ServiceName): Promise<string> {
  const map = await run(edge, 'nft', 'list', 'map', 'ip', 'edgemesh', 'slot-0')
  return new RegExp(`${services[service].replaceAll('.', '\\.')} \\. 80 : ([\\d.]+ \\. \\d+)`).exec(map)?.[1] ?? ''
}

async function restart(changes: Parameters<typeof configOf>[0]): Promise<void> {
  await agent.stop()
  agent = await lab.startAgent('edge-a1', configOf(changes))
}

test('without the key neighbours are met and reached through the tunnel, and nothing is routed', async () => {
  await eventually(30_000, async () => assert.equal(await bodyOf('web-a2'), 'web-a2'))
  await eventually(30_000, async () => {
    const { tunnel } = await statusOf(edge)
    assert.deepEqual(
      tunnel?.peers
        .filter(({ path }) => path.kind === 'lan')
        .map(({ name }) => name)
        .sort(),
      ['edge-a2', 'edge-a3'],
    )
  })
  assert.equal(await ownRoutes(), '')
  assert.match(await slotOf('web-a2'), /^169\.254\./)
})

test('with it the pods of a neighbour are routed to it, and the kernel sends to them by itself', async () => {
  await restart({ hostRoutes: true, onStop: 'remove' })
  await eventually(30_000, async () => assert.equal(await ownRoutes(), ourRoute))
  await eventually(30_000, async () => assert.equal(await slotOf('web-a2'), '10.244.2.2 . 8080'))
  assert.equal(await bodyOf('web-a2'), 'web-a2')
  const { proxy } = await statusOf(edge)
  const reach = proxy?.reachability.nodes.find(({ node }) => node === 'edge-a2')
  assert.deepEqual(reach, { node: 'edge-a2', direct: 1, tunnelled: 0 })
})

test('a neighbour whose range another node has gets no route, and status says why', async () => {
  await eventually(20_000, async () => {
    const { hostRoutes } = await statusOf(edge)
    assert.deepEqual(hostRoutes, [
      { node: 'edge-a2', gateway: '192.168.1.12', networks: [ranges['edge-a2']] },
      { node: 'edge-a3', gateway: '192.168.1.13', networks: [], reason: clash },
    ])
  })
  const { stdout } = await edgemesh(edge, 'status', 'agent', '--config', `${edge.dir}/edgemesh-agent.yaml`)
  assert.match(stdout, /^route {5}edge-a2 +10\.244\.2\.0\/24 via 192\.168\.1\.12$/m)
  assert.ok(stdout.includes(`none: ${clash}`), stdout)
  assert.match(await slotOf('web-a3'), /^169\.254\./)
  await eventually(20_000, async () => assert.equal(await bodyOf('web-a3'), 'web-a3'))
})

test('a route that somebody else makes to the same pods wins, and ours comes back when it goes', async () => {
  const theirs = [ranges['edge-a2'], 'via', lab.node('edge-a2').address]
  await run(edge, 'ip', 'route', 'add', ...theirs)
  await eventually(20_000, async () => assert.equal(await ownRoutes(), ''))
  assert.match(
    await run(edge, 'ip', '-4', 'route', 'show', ranges['edge-a2']),
    /^10\.244\.2\.0\/24 via 192\.168\.1\.12 /,
  )
  await eventually(20_000, async () => {
    const { hostRoutes } = await statusOf(edge)
    assert.equal(hostRoutes?.[0]?.reason, '10.244.2.0/24 clashes with the route 10.244.2.0/24 dev eth0')
  })
  await run(edge, 'ip', 'route', 'del', ...theirs)
  await eventually(20_000, async () => assert.equal(await ownRoutes(), ourRoute))
  // As do routes that somebody removes.
  await run(edge, 'ip', 'route', 'flush', 'proto', '96')
  await eventually(30_000, async () => assert.equal(await ownRoutes(), ourRoute))
})

test('a stop with onStop remove leaves no route of ours, and those of others', async () => {
  await agent.stop()
  assert.equal(await ownRoutes(), '')
  await assertForeignRoute()
})

test('with onStop keep they stay for connections that stand, until edgemesh cleanup', async () => {
  await restart({ hostRoutes: true })
  await eventually(30_000, async () => assert.equal(await ownRoutes(), ourRoute))
  await agent.stop()
  assert.equal(await ownRoutes(), ourRoute)
  const { code, stderr } = await edgemesh(edge, 'cleanup')
  assert.equal(code, 0, stderr)
  assert.equal(await ownRoutes(), '')
  await assertForeignRoute()
})

test('an agent that starts without the key removes what an earlier run has left', async () => {
  await restart({ hostRoutes: true })
  await eventually(30_000, async () => assert.equal(await ownRoutes(), ourRoute))
  await restart({ hostRoutes: false })
  await eventually(20_000, async () => assert.equal(await ownRoutes(), ''))
  await assertForeignRoute()
})
