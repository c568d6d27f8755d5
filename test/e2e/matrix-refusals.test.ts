/**
 * What an agent does not do for its peers, by a node with manifests of its own and by a member that lies.
 *
 *                    wan
 *     ┌──────────────┴┬────────────────────┐
 *   relay          router-a             router-b
 *   server            │              ┌─────┴──────┐
 *                  edge-a1        edge-b1      edge-b2
 *                  agent with     agent        no agent: here the liar runs
 *                  false manifests
 *
 * Servers that must not be reached listen on edge-b1; client-edge-a1 is a pod.
 */
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import {
  createLab,
  endpointSliceManifest,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import type { HostileSettings } from './support/hostile-peer.ts'
import { assertRefusedAtOnce, bodyFrom, eventually, fetchFrom, writeService } from './support/site.ts'

const script = join(import.meta.dirname, 'support', 'hostile-peer.ts')

let lab: Lab
let victim: LabProcess
before(async () => {
  lab = await createLab({
    cloud: ['relay'],
    lans: {
      a: { nodes: { 'edge-a1': { pods: ['client-edge-a1'] } } },
      b: { nodes: { 'edge-b1': { pods: ['web-edge-b1', 'secret-edge-b1'] }, 'edge-b2': {} } },
    },
  })
  for (const host of [lab.pod('web-edge-b1'), lab.pod('secret-edge-b1'), lab.node('edge-b1')]) {
    await startTestServer(host, 'http', { port: 8080 })
  }
  await writeService(lab, 'web', '10.96.0.1', [{ node: 'edge-b1', host: lab.pod('web-edge-b1'), port: 8080 }])
  await lab.startServer('relay')
  victim = await lab.startAgent('edge-b1')
})
after(() => lab?.[Symbol.asyncDispose]())

/** How often edge-b1 has refused, by reason. */
async function refusals(): Promise<Readonly<Record<string, number>>> {
  const host = lab.node('edge-b1')
  const socket = `${host.dir}/agent/run/control.sock`
  const { code, stdout, stderr } = await host.exec(['curl', '-sS', '--unix-socket', socket, 'http://edgemesh/metrics'])
  assert.equal(code, 0, stderr)
  const lines = stdout.matchAll(/^edgemesh_tunnel_refused_targets_total\{reason="([^"]+)"\} (\d+)$/gm)
  return Object.fromEntries([...lines].map(([, reason = '', count]) => [reason, Number(count)]))
}

test('endpoints that only the manifests of the client know are reset, counted and named', async () => {
  const manifests = join(lab.dir, 'false-manifests')
  await mkdir(manifests)
  const endpoints = {
    true: lab.pod('web-edge-b1').address,
    unknown: lab.pod('secret-edge-b1').address,
    node: lab.node('edge-b1').address,
    loopback: '127.0.0.1',
    metadata: '169.254.169.254',
    bridge: '169.254.96.16',
  }
  for (const [at, [name, address]] of Object.entries(endpoints).entries()) {
    const ports = [{ port: 80, targetPort: 8080 }]
    const service = serviceManifest({ name, clusterIP: `10.96.3.${at + 1}`, ports })
    const slice = endpointSliceManifest({ serviceName: name, ports, endpoints: [{ address, nodeName: 'edge-b1' }] })
    await writeFile(join(manifests, `${name}.yaml`), `${service}---\n${slice}`)
  }
  const liar = await lab.startAgent('edge-a1', { kubeAPIConfig: { manifests } })
  const client = lab.pod('client-edge-a1')
  await eventually(10_000, async () => assert.equal(await bodyFrom(client, 'http://10.96.3.1/'), 'web-edge-b1'))
  assert.deepEqual(await refusals(), {})

  for (const [count, url] of ['http://10.96.3.2/', 'http://10.96.3.3/'].entries()) {
    const { code, stderr } = await fetchFrom(client, url)
    assert.equal(code, 56, stderr)
    assert.match(stderr, /reset by peer/)
    assert.deepEqual(await refusals(), { 'unknown-target': count + 1 })
  }
  const refused = JSON.parse(await victim.waitForLine(/"msg":"target refused"/))
  assert.equal(refused.reason, 'unknown-target')
  assert.equal(refused.peer, 'edge-a1')
  assert.equal(refused.backend, `${endpoints.unknown}:8080`)
  const why = `${endpoints.unknown}:8080 on edge-b1: no Service has this endpoint there`
  assert.ok((await liar.waitForLine(/"msg":"connection reset"/)).includes(why))

  // These are not even asked for.
  for (const url of ['http://10.96.3.4/', 'http://10.96.3.5/', 'http://10.96.3.6/']) {
    await assertRefusedAtOnce(client, url)
    await assertRefusedAtOnce(lab.node('edge-a1'), url)
  }
  assert.deepEqual(await refusals(), { 'unknown-target': 2 })
})

test('a peer that asks past its own checks is refused for each reason, and the rest still works', async () => {
  const before = await refusals()
  const host = lab.node('edge-b2')
  const own = { nodeName: 'edge-b1', port: 8080 }
  const web = lab.pod('web-edge-b1').address
  const forbidden = ['127.0.0.1', '169.254.169.254', '169.254.96.16', '169.254.64.1', '0.0.0.0', '224.0.0.1', '::1']
  const settings: HostileSettings = {
    dir: host.dir,
    server: `${lab.node('relay').address}:20004`,
    psk: join(lab.dir, 'psk'),
    victim: `${lab.node('edge-b1').address}/tcp/20006`,
    requests: [
      { ...own, address: web },
      ...forbidden.map((address) => ({ ...own, address })),
      { ...own, address: web, port: 22 },
      { ...own, address: lab.pod('secret-edge-b1').address },
      { ...own, address: web, nodeName: 'edge-a1' },
    ],
    nameless: { ...own, address: web },
  }
  const { code, stdout, stderr } = await host.exec([process.execPath, script, JSON.stringify(settings)], {
    timeoutMs: 30_000,
  })
  assert.equal(code, 0, stderr)
  const outcomes: readonly string[] = JSON.parse(stdout)
  const denied = (address: string) =>
    `forbidden: Cannot connect to ${address} on edge-b1: such addresses are not reachable through the tunnel`
  assert.deepEqual(outcomes.slice(0, -1), [
    'served',
    ...forbidden.map((address) => denied(address === '::1' ? '[::1]:8080' : `${address}:8080`)),
    `unknown-target: Cannot connect to ${web}:22 on edge-b1: no Service has this endpoint there`,
    `unknown-target: Cannot connect to ${lab.pod('secret-edge-b1').address}:8080 on edge-b1: no Service has this endpoint there`,
    `forbidden: Cannot connect to ${web}:8080 on edge-a1: this is edge-b1`,
  ])
  assert.match(outcomes.at(-1) ?? '', /^forbidden: edge-b1 knows no node with the identity 12D3KooW/)
  assert.deepEqual(await refusals(), {
    'unknown-target': (before['unknown-target'] ?? 0) + 2,
    address: forbidden.length,
    'node-name': 1,
    'unknown-peer': 1,
  })
  for (const reason of ['address', 'node-name', 'unknown-target', 'unknown peer']) {
    const line = await victim.waitForLine(new RegExp(`"reason":"${reason}".*"msg":"target refused"`))
    assert.match(line, /"level":"warn"/)
  }
  assert.equal(await bodyFrom(lab.pod('client-edge-a1'), 'http://10.96.3.1/'), 'web-edge-b1')
})
