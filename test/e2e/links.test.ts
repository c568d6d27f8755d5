/**
 * What links carry, on each kind of path, and what they cost:
 *
 *                    wan
 *     ┌──────────────┴───────┬────────────────────┐───────────────────┐
 *   relay                 router-a             router-b            router-c     NATs; b gives each connection a random
 *   server              ┌─────┴─────┐              │                   │        port, the others keep it
 *                    edge-a1     edge-a2        edge-b1             edge-c1
 *
 * The client is always the pod client-edge-a1: its links to edge-a2 are in the LAN, to edge-b1 relayed, to edge-c1 punched.
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { requestControl } from '../../src/net/index.ts'
import { observedOn } from '../bench/support/observed.ts'
import { megabytes, usageOf } from '../bench/support/usage.ts'
import { endpointSliceManifest, type Host, type Lab, type ManifestPort, serviceManifest } from '../lab/index.ts'
import {
  createSite,
  eventually,
  get,
  type Mesh,
  ports,
  quickStatusOf,
  resolve,
  siteSpec,
  startMesh,
  writeService,
} from './support/site.ts'

const nodes = ['edge-a1', 'edge-a2', 'edge-b1', 'edge-c1'] as const
const ways = { 'edge-a2': 'lan', 'edge-b1': 'relayed', 'edge-c1': 'punched' } as const

/** On each of eight connections; env EDGEMESH_TEST_MEGABYTES=100 carries more. */
const megabytesEach = Number(process.env['EDGEMESH_TEST_MEGABYTES'] ?? '10')
const idleSockets = 500

const script = (name: string) => join(import.meta.dirname, 'support', name)

let lab: Lab
let mesh: Mesh
let client: Host
before(async () => {
  const pods = { pods: ['web-edge-c1', 'client-edge-c1'] }
  const lans = { ...siteSpec.lans, c: { nodes: { 'edge-c1': pods } } }
  lab = await createSite({ ...siteSpec, lans }, nodes)
  const web = lab.pod('web-edge-a2')
  await web
    .spawn([process.execPath, script('websockets.ts'), 'serve', web.address, '9000'])
    .waitForLine(/^listening/, 10_000)
  await writeService(lab, 'websockets', '10.96.0.50', [{ node: 'edge-a2', host: web, port: 9000 }])
  mesh = await startMesh(lab, nodes)
  client = lab.pod('client-edge-a1')
})
after(() => lab?.[Symbol.asyncDispose]())

async function peerOf(name: string) {
  const { tunnel } = await quickStatusOf(lab.node('edge-a1'))
  return tunnel?.peers.find((peer) => peer.name === name)
}

for (const [node, kind] of Object.entries(ways)) {
  test(`eight long connections at once are intact on a ${kind} path`, async (t) => {
    await eventually(60_000, async () => {
      await get(client, `web-${node}`, '/', 5_000)
      assert.equal((await peerOf(node))?.path.kind, kind)
    })
    const address = await resolve(client, `web-${node}`)
    const bytes = String(megabytesEach * 1_000_000)
    const startedMs = performance.now()
    const { code, stdout, stderr } = await client.exec(
      [process.execPath, script('integrity-client.ts'), address, String(ports.echo), '8', bytes],
      { timeoutMs: 500_000 },
    )
    assert.deepEqual([code, stdout.trim()], [0, 'intact'], stderr)
    const seconds = (performance.now() - startedMs) / 1000
    const links = (await peerOf(node))?.links?.count
    t.diagnostic(`8 × ${megabytesEach} MB there and back in ${seconds.toFixed(1)} s over ${links} links`)
    assert.equal((await peerOf(node))?.path.kind, kind)
  })
}

/** Links of edge-a1 of this kind on the punched path. */
async function punchedLinks(kind: 'bulk' | 'datagram'): Promise<number> {
  const socket = join(lab.node('edge-a1').dir, 'agent', 'run', 'control.sock')
  const { body } = await requestControl(socket, { method: 'GET', url: '/metrics' })
  const line = new RegExp(`tunnel_links{kind="${kind}",path="punched"} (\\d+)`).exec(body)
  return Number(line?.[1] ?? 0)
}

test('a long flow on a punched path gets a connection of its own, and small requests go on beside it', async (t) => {
  const address = await resolve(client, 'web-edge-c1')
  const url = `http://${address}/bytes?n=4000000000`
  await using bulk = client.spawn(['curl', '-sS', '--limit-rate', '20M', '-o', '/dev/null', url])
  const ms = await eventually(30_000, async () => assert.ok((await punchedLinks('bulk')) > 0))
  t.diagnostic(`a bulk link after ${ms.toFixed(0)} ms`)
  for (let request = 0; request < 20; request++) await get(client, 'web-edge-c1', '/', 5_000)
  assert.equal(bulk.exit, undefined, bulk.output())
  assert.equal((await peerOf('edge-c1'))?.path.kind, 'punched')
})

test('datagrams on a punched path get a connection of their own', async (t) => {
  const web = lab.pod('web-edge-c1')
  await web.spawn([process.execPath, script('udp-name-server.ts'), '5300', 'edge-c1']).waitForLine(/^listening/, 10_000)
  const udp: ManifestPort[] = [{ port: 5300, protocol: 'UDP' }]
  const endpoints = [{ address: web.address, nodeName: 'edge-c1', podName: web.name }]
  const slice = endpointSliceManifest({ serviceName: 'name', ports: udp, endpoints })
  await lab.writeManifest(
    'name.yaml',
    `${serviceManifest({ name: 'name', clusterIP: '10.96.0.60', ports: udp })}---\n${slice}`,
  )
  await eventually(20_000, async () => {
    const { stdout } = await client.exec([process.execPath, script('udp-name-client.ts'), '10.96.0.60', '5300'])
    assert.equal(stdout.trim(), 'edge-c1')
  })
  const ms = await eventually(20_000, async () => assert.ok((await punchedLinks('datagram')) > 0))
  t.diagnostic(`a datagram link after ${ms.toFixed(0)} ms`)
})

test('five hundred idle WebSockets cost few connections and little memory', async (t) => {
  const address = await resolve(client, 'websockets')
  const open = (count: number) =>
    client.spawn([process.execPath, script('websockets.ts'), 'open', address, '80', String(count)])
  const agents = ['edge-a1', 'edge-a2'].map((name) => observedOn(lab.node(name), 'agent', mesh.agent(name).pid))
  // What the first ones cost is not theirs alone.
  await using few = open(50)
  await few.waitForLine(/^open 50/, 30_000)
  const before = await Promise.all(agents.map(usageOf))
  await using many = open(idleSockets)
  await many.waitForLine(new RegExp(`^open ${idleSockets}`), 60_000)
  await eventually(60_000, async () => {
    const now = await Promise.all(agents.map(usageOf))
    const grown = now.map(({ rss }, at) => rss - (before[at]?.rss ?? 0))
    const text = agents.map(({ name }, at) => `${name} ${megabytes(grown[at] ?? 0)} MB`).join(', ')
    for (const bytes of grown) assert.ok(bytes <= 20e6, text)
    t.diagnostic(text)
  })
  const peer = await peerOf('edge-a2')
  t.diagnostic(`${peer?.openFlows} flows over ${peer?.links?.count} links and one connection of libp2p`)
  assert.ok((peer?.openFlows ?? 0) >= idleSockets)
  assert.ok((peer?.links?.count ?? 0) + 1 <= 8)
  assert.doesNotMatch(many.output(), /lost/)
})
