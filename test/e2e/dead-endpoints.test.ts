/**
 * Endpoints that die while all their Service's endpoints are on this node, so that no packet of it enters userspace.
 * Their readiness never changes, as while the cloud is away.
 *
 *     wan ── router-a ── edge-a1 (agent) ── pods web-1, web-2, client
 */
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import { eventually } from './support/site.ts'

const clusterIP = '10.96.8.1'
const url = `http://${clusterIP}/`
const pods = ['web-1', 'web-2'] as const

let lab: Lab
let edge: Host
let client: Host
let servers: Record<(typeof pods)[number], LabProcess>

const start = (pod: (typeof pods)[number]) => startTestServer(lab.pod(pod), 'http', { port: 8080, name: pod })

before(async () => {
  lab = await createLab({ lans: { a: { nodes: { 'edge-a1': { pods: ['web-1', 'web-2', 'client'] } } } } })
  edge = lab.node('edge-a1')
  client = lab.pod('client')
  servers = { 'web-1': await start('web-1'), 'web-2': await start('web-2') }
  const ports = [{ name: 'http', port: 80, targetPort: 8080 }]
  const endpoints = pods.map((pod) => ({ address: lab.pod(pod).address, nodeName: 'edge-a1' }))
  const slice = endpointSliceManifest({ serviceName: 'web', ports, endpoints })
  await lab.writeManifest('web.yaml', `${serviceManifest({ name: 'web', clusterIP, ports })}---\n${slice}`)
  await lab.startAgent('edge-a1')
  await eventually(10_000, async () => assert.deepEqual(await slots(), ['10.244.1.2', '10.244.1.3']))
})
after(() => lab?.[Symbol.asyncDispose]())

/** The endpoints that the kernel sends new connections to. */
async function slots(): Promise<string[]> {
  const { stdout } = await edge.exec(['nft', 'list', 'table', 'ip', 'edgemesh'])
  return [...stdout.matchAll(/10\.96\.8\.1 \. 80 : (10\.244\.1\.\d+) \. 8080/g)].map((match) => match[1] ?? '').sort()
}

/** Connects again and again until the kernel sends to this endpoint alone; tells how long connections have failed. */
async function untilAlone(t: TestContext, address: string): Promise<void> {
  const startedAt = performance.now()
  let lastFailureMs = 0
  await eventually(20_000, async () => {
    const { code } = await client.exec(['curl', '-s', '-o', '/dev/null', '--connect-timeout', '0.3', url])
    if (code !== 0) lastFailureMs = performance.now() - startedAt
    assert.deepEqual(await slots(), [address])
  })
  t.diagnostic(`the last connection that failed ended after ${lastFailureMs.toFixed(0)} ms`)
  for (let request = 0; request < 20; request++) {
    const { code, stderr } = await client.exec(['curl', '-sS', '-o', '/dev/null', '--max-time', '5', url])
    assert.equal(code, 0, stderr)
  }
}

const untilBoth = () => eventually(20_000, async () => assert.deepEqual(await slots(), ['10.244.1.2', '10.244.1.3']))

test('a process that died gets no new connections, and gets its share when it is back', async (t) => {
  await servers['web-1'].stop('SIGKILL')
  await untilAlone(t, '10.244.1.3')
  servers['web-1'] = await start('web-1')
  await untilBoth()
})

test('clients on the node itself show it as well', async () => {
  await servers['web-2'].stop('SIGKILL')
  await eventually(20_000, async () => {
    await edge.exec(['curl', '-s', '-o', '/dev/null', '--connect-timeout', '0.3', url])
    assert.deepEqual(await slots(), ['10.244.1.2'])
  })
  servers['web-2'] = await start('web-2')
  await untilBoth()
})

test('a pod whose network is gone gets no new connections', async (t) => {
  await edge.exec(['ip', 'link', 'set', 'veth0', 'down'])
  await untilAlone(t, '10.244.1.3')
  await edge.exec(['ip', 'link', 'set', 'veth0', 'up'])
  await untilBoth()
})

test('when all are dead all keep their share, so that clients are told by those who should know', async () => {
  await servers['web-1'].stop('SIGKILL')
  await servers['web-2'].stop('SIGKILL')
  for (let request = 0; request < 40; request++) {
    const { code } = await client.exec(['curl', '-s', '-o', '/dev/null', '--connect-timeout', '0.3', url])
    assert.equal(code, 7)
  }
  await untilBoth()
  servers['web-2'] = await start('web-2')
  await eventually(20_000, async () => assert.deepEqual(await slots(), ['10.244.1.3']))
})
