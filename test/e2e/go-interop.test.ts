/**
 * Our agent in a mesh of derived identities, among nodes that speak the Go system's protocols and have no records.
 * Real agents of the Go system meet ours in test/interop, by hand.
 *
 *     cloud-1 relay of the Go kind    cloud-2 relay of ours
 *        ┌──────────────────┬────────────────┘
 *    router-a            router-b
 *     edge-a1 ours        edge-b1 Go kind, reserves at cloud-1
 *     edge-a2 Go kind,    edge-b2 Go kind, reserves at cloud-2
 *       found by mDNS     edge-b3 ours, found at cloud-2
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { createLab, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import type { GoPeerSettings } from './support/go-peer.ts'
import { bodyFrom, eventually, fetchFrom, quickStatusOf, statusOf, writeService } from './support/site.ts'
import { startSteadyFlow } from './support/steady-flow.ts'

const script = join(import.meta.dirname, 'support', 'go-peer.ts')
const upload = join(import.meta.dirname, 'support', 'upload.ts')
const tunnelPort = 20_006
const podPort = 8080
const echoPort = 8082
const uploadPort = 8083
const clusterIPs = {
  'cloud-1': '10.96.0.1',
  'edge-a1': '10.96.0.2',
  'edge-a2': '10.96.0.3',
  'edge-b1': '10.96.0.4',
  'edge-b2': '10.96.0.5',
}
const rendezvous = 'EDGEMESH_PLAYGOUND'

let lab: Lab
let across: LabProcess
const processes = new Map<string, LabProcess>()
before(async () => {
  lab = await createLab({
    cloud: { 'cloud-1': { pods: ['web-cloud-1'] }, 'cloud-2': {} },
    lans: {
      a: { nodes: { 'edge-a1': { pods: ['web-edge-a1'] }, 'edge-a2': { pods: ['web-edge-a2'] } } },
      b: { nodes: { 'edge-b1': { pods: ['web-edge-b1'] }, 'edge-b2': { pods: ['web-edge-b2'] }, 'edge-b3': {} } },
    },
  })
  for (const [node, clusterIP] of Object.entries(clusterIPs)) {
    const pod = lab.pod(`web-${node}`)
    await startTestServer(pod, 'http', { port: podPort })
    await writeService(lab, `web-${node}`, clusterIP, [{ node, host: pod, port: podPort }])
  }
  await startGoPeer('cloud-1', { isRelay: true })
  await Promise.all(['cloud-2', 'edge-a1', 'edge-b3'].map(startAgent))
  const relayOf = (name: string) => ({ name, address: `${lab.node(name).address}/tcp/${tunnelPort}` })
  const { address } = lab.pod('web-edge-a1')
  const requests = [
    { nodeName: 'edge-a1', address, port: podPort },
    { nodeName: 'edge-a1', address, port: 9 },
  ]
  across = await startGoPeer('edge-b1', { relay: relayOf('cloud-1'), requests })
  await startGoPeer('edge-b2', { relay: relayOf('cloud-2') })
  await startGoPeer('edge-a2', { rendezvous })
})
after(() => lab?.[Symbol.asyncDispose]())

async function startGoPeer(name: string, changes: Partial<GoPeerSettings>): Promise<LabProcess> {
  const host = lab.node(name)
  const psk = join(host.dir, '..', '..', 'psk')
  const settings: GoPeerSettings = { name, psk, listenPort: tunnelPort, isRelay: false, requests: [], ...changes }
  const started = host.spawn([process.execPath, script, JSON.stringify(settings)])
  await started.waitForLine(/^ready$/m, 30_000)
  processes.set(name, started)
  return started
}

async function startAgent(name: string): Promise<void> {
  const relayNodes = ['cloud-1', 'cloud-2'].map((nodeName) => {
    return { nodeName, advertiseAddress: [lab.node(nodeName).address] }
  })
  const started = await lab.startAgent(name, {
    modules: { edgeTunnel: { enable: true, identity: 'derived', servers: [], relayNodes } },
  })
  processes.set(name, started)
}

test('a node of the Go kind behind another NAT is reached through the relay named in relayNodes', async () => {
  await eventually(30_000, async () => {
    assert.match(await bodyFrom(lab.node('edge-a1'), `http://${clusterIPs['edge-b1']}/`), /web-edge-b1/)
  })
})

test('and through a relay of ours', async () => {
  await eventually(30_000, async () => {
    assert.match(await bodyFrom(lab.node('edge-a1'), `http://${clusterIPs['edge-b2']}/`), /web-edge-b2/)
  })
})

test('so is the relay itself', async () => {
  assert.match(await bodyFrom(lab.node('edge-a1'), `http://${clusterIPs['cloud-1']}/`), /web-cloud-1/)
})

test('a neighbour of the Go kind is found and met directly', async () => {
  await eventually(30_000, async () => {
    const body = await bodyFrom(lab.node('edge-a1'), `http://${clusterIPs['edge-a2']}/`)
    assert.match(body, /web-edge-a2/)
  })
  const peers = (await statusOf(lab.node('edge-a1'))).tunnel?.peers ?? []
  assert.equal(peers.find(({ name }) => name === 'edge-a2')?.path.kind, 'lan', JSON.stringify(peers))
})

test('a node of the Go kind reaches endpoints of ours, and nothing else', async () => {
  await across.waitForLine(/web-edge-a1/, 30_000)
  await across.waitForLine(/DialError: connect [\d.]+:9 on edge-a1 failed/, 30_000)
})

test('a target that the far agent cannot reach is a reset, not an empty answer', async () => {
  await writeService(lab, 'gone', '10.96.0.9', [{ node: 'edge-b1', host: lab.pod('web-edge-b1'), port: 9 }])
  await eventually(30_000, async () => {
    const { code, stderr } = await fetchFrom(lab.node('edge-a1'), 'http://10.96.0.9/')
    assert.equal(code, 56, stderr)
  })
})

test('nodes that no multicast reaches find each other at the relay, and tell their names', async () => {
  for (const [name, other] of [
    ['edge-a1', 'edge-b3'],
    ['edge-b3', 'edge-a1'],
  ] as const) {
    await processes.get(name)?.waitForLine(new RegExp(`"peer":"${other}".*peer has told its name`), 30_000)
  }
})

async function connectedServers(): Promise<number> {
  const servers = (await quickStatusOf(lab.node('edge-a1'))).tunnel?.servers ?? []
  return servers.filter(({ connected }) => connected).length
}

test('a machine of the only relay that is gone counts as such within seconds; what it carries goes on if it comes back', async (t) => {
  const echo = lab.pod('web-edge-b1')
  await startTestServer(echo, 'echo', { port: echoPort })
  await writeService(lab, 'echo', '10.96.0.8', [{ node: 'edge-b1', host: echo, port: echoPort }])
  for (const other of ['cloud-2', 'edge-a2', 'edge-b3']) await processes.get(other)?.stop('SIGKILL')
  await eventually(20_000, async () => assert.equal(await connectedServers(), 1))
  await using flow = await startSteadyFlow(lab.node('edge-a1'), '10.96.0.8', 80)
  await lab.cutWan('cloud-1')
  const goneMs = await eventually(20_000, async () => assert.equal(await connectedServers(), 0))
  t.diagnostic(`the relay counts as gone ${goneMs.toFixed(0)} ms after its machine was`)
  const { code, ms } = await fetchFrom(lab.node('edge-a1'), `http://${clusterIPs['edge-b1']}/`)
  assert.notEqual(code, 0)
  t.diagnostic(`a new connection is refused after ${ms.toFixed(0)} ms`)
  await lab.restoreWan('cloud-1')
  await flow.carries(20_000)
  await eventually(20_000, async () => {
    assert.match(await bodyFrom(lab.node('edge-a1'), `http://${clusterIPs['edge-b1']}/`), /web-edge-b1/)
  })
})

test('a slow uplink that is full for longer than any silence may last is not taken for a relay that is gone', async (t) => {
  const pod = lab.pod('web-edge-b1')
  const bytes = 200_000
  await pod.spawn([process.execPath, upload, 'serve', String(uploadPort), String(bytes)]).waitForLine(/^listening/)
  await writeService(lab, 'upload', '10.96.0.10', [{ node: 'edge-b1', host: pod, port: uploadPort }])
  const shape = async (action: 'add' | 'del', ...limit: string[]) => {
    const { code, stderr } = await lab.router('a').exec(['tc', 'qdisc', action, 'dev', 'wan0', 'root', ...limit])
    assert.equal(code, 0, stderr)
  }
  await shape('add', 'tbf', 'rate', '64kbit', 'burst', '16kb', 'latency', '30s')
  const startedAt = performance.now()
  const send = [process.execPath, upload, 'send', '10.96.0.10', '80', String(bytes)]
  const { stdout } = await lab.node('edge-a1').exec(send, { timeoutMs: 90_000 })
  const tookMs = performance.now() - startedAt
  await shape('del')
  assert.equal(stdout.trim(), 'all is there')
  t.diagnostic(`the uplink was full for ${tookMs.toFixed(0)} ms`)
  assert.ok(tookMs > 13_000, 'the uplink was not slow')
  // What waited in the queue went with it, and is sent again late.
  await eventually(60_000, async () => {
    await using flow = await startSteadyFlow(lab.node('edge-a1'), '10.96.0.8', 80)
    await flow.carries(5_000)
  })
})

test('a flow ends soon after the only relay has fallen silent, though nobody else is heard', async (t) => {
  await using flow = await startSteadyFlow(lab.node('edge-a1'), '10.96.0.8', 80)
  processes.get('cloud-1')?.kill('SIGSTOP')
  const start = performance.now()
  await flow.ended(30_000)
  t.diagnostic(`the flow ended ${(performance.now() - start).toFixed(0)} ms after the relay had fallen silent`)
  const lost = await processes.get('edge-a1')?.waitForLine(/the relay is lost: nothing was heard/, 20_000)
  const silentSeconds = Number(/nothing was heard for (\d+) s/.exec(lost ?? '')?.[1])
  assert.ok(silentSeconds < 12, 'as soon as it is clear that it is not our own line')
  processes.get('cloud-1')?.kill('SIGCONT')
})
