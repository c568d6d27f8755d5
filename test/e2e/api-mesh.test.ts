/**
 * The mesh with agents on a real API server, which its own controllers fill with endpoints:
 *
 *                              wan
 *     ┌──────────┬────────┬─────┴────────┬────────────────────┐
 *   relay  control-plane cloud-1      router-a             router-b        NATs; b gives each connection a random port
 *   server  etcd, API    agent     ┌─────┴─────┐              │
 *           controllers         edge-a1     edge-a2        edge-b1         agents
 *
 * Each node has the pods web-NODE (servers behind the Service of that name) and client-NODE.
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type ControlPlane, createReadyPod, deletePod, isWithoutEnvtest } from '../envtest/index.ts'
import { type Lab, startTestServer } from '../lab/index.ts'
import { registerPathTests } from './support/path-tests.ts'
import {
  addWebServices,
  createClusterLab,
  eventually,
  get,
  type Mesh,
  nodes,
  paths,
  siteSpec,
  startMesh,
  statusOf,
  writeService,
} from './support/site.ts'
import { medianOf, type SteadyRequests, startSteadyRequestsOn } from './support/steady-requests.ts'

/** How long the API is away. */
const outageMs = 1_000 * Number(process.env['EDGEMESH_TEST_OUTAGE_SECONDS'] ?? 60)
/** Generous, because the machine may be busy: what counts is printed. */
const patienceMs = 30_000
const services = '/api/v1/namespaces/default/services'

let lab: Lab
let plane: ControlPlane
let mesh: Mesh

async function start(): Promise<void> {
  ;({ lab, plane } = await createClusterLab(siteSpec, { controllers: true }))
  await addWebServices(lab)
  mesh = await startMesh(lab)
  // The controllers take no endpoint on a node that they do not know.
  for (const name of nodes) await plane.call('POST', '/api/v1/nodes', { metadata: { name } })
  await eventually(20_000, async () => {
    for (const { from, to } of paths) await get(lab.node(from), `web-${to}`, '/', 5_000)
  })
}

/** A Service on port 80 whose endpoints the controllers find, by the label `app` of Pods. */
function serviceOf(name: string, clusterIP: string, app: string): object {
  const ports = [{ name: 'http', port: 80, targetPort: 8080 }]
  return { metadata: { name }, spec: { clusterIP, selector: { app }, ports } }
}

function registerServerTests(): void {
  test('the server is killed and started again: nodes reach each other across it within 5 s', async (t) => {
    await mesh.server.stop('SIGKILL')
    assert.equal(await get(lab.pod('client-edge-a1'), 'web-edge-a2'), 'web-edge-a2')
    await lab.startServer('relay')
    const backMs = await eventually(5_000, async () => {
      assert.equal(await get(lab.pod('client-edge-a1'), 'web-edge-b1', '/', 2_000), 'web-edge-b1')
      assert.equal(await get(lab.pod('client-edge-b1'), 'web-edge-a1', '/', 2_000), 'web-edge-a1')
    })
    t.diagnostic(`both ways work ${backMs.toFixed(0)} ms after the server was ready`)
  })
}

function registerChangeTests(): void {
  test('a Service is reached from every node soon after it is created', async (t) => {
    const count = 10
    const addresses = Array.from({ length: count }, (_, index) => `10.96.3.${index + 1}`)
    const urls = addresses.map((address) => `http://${address}/`)
    await createReadyPod(plane, { name: 'web-edge-b1', app: 'quick', node: 'edge-b1', ip: ipOf('edge-b1') })
    const options = { everyMs: 25, timeoutMs: 1_000, mode: 'until' } as const
    await using traffic = await startSteadyRequestsOn(hosts(), urls, options)
    const { clients } = traffic
    const times: number[] = []
    for (const [index, address] of addresses.entries()) {
      const createdAt = Date.now()
      await plane.call('POST', services, serviceOf(`quick-${index}`, address, 'quick'))
      const answers = await Promise.all(clients.map((client) => client.answerOf(`http://${address}/`, patienceMs)))
      for (const { answer } of answers) assert.equal(answer, 'web-edge-b1')
      times.push(Math.max(...answers.map(({ at, ms }) => at + ms)) - createdAt)
    }
    tell(t, 'Service created -> answers on all four nodes', times)
    for (let index = 0; index < count; index++) await plane.call('DELETE', `${services}/quick-${index}`)
  })

  test('an endpoint that is removed gets no new connection soon after, from no node', async (t) => {
    const url = 'http://10.96.3.100/'
    const pod = (node: string) => ({ name: `two-${node}`, app: 'two', node, ip: ipOf(node) })
    await createReadyPod(plane, pod('cloud-1'))
    await createReadyPod(plane, pod('edge-b1'))
    await plane.call('POST', services, serviceOf('two', '10.96.3.100', 'two'))
    const options = { everyMs: 40, timeoutMs: 3_000 }
    await using traffic = await startSteadyRequestsOn(hosts(), [url], options)
    const { clients } = traffic
    const times: number[] = []
    let steadyAt = Number.POSITIVE_INFINITY
    for (let round = 0; round < 5; round++) {
      await eventually(patienceMs, async () => {
        for (const client of clients) assert.deepEqual(recentAnswersOf(client), ['web-cloud-1', 'web-edge-b1'])
      })
      const removedAt = Date.now()
      steadyAt = Math.min(steadyAt, removedAt)
      await deletePod(plane, pod('edge-b1').name)
      await eventually(patienceMs, async () => {
        for (const client of clients) assert.deepEqual(recentAnswersOf(client), ['web-cloud-1'])
      })
      const last = clients.flatMap((client) => client.ended().filter(({ answer }) => answer === 'web-edge-b1'))
      times.push(Math.max(0, ...last.map(({ at }) => at - removedAt)))
      await createReadyPod(plane, pod('edge-b1'))
    }
    const failed = clients.flatMap((client) => client.ended().filter(({ answer, at }) => !answer && at >= steadyAt))
    tell(t, 'Pod deleted -> last connection to its endpoint, over all four nodes', times)
    assert.deepEqual(failed, [])
  })
}

/** A machine in the LAN of edge-a1 that is no node: only there it has this address. */
function registerMachineTests(): void {
  test('a machine outside the cluster is reached from every node through the node that its annotation names', async () => {
    const machine = lab.node('edge-a2')
    await startTestServer(machine, 'http', { port: 9090 })
    const ports = [{ name: 'http', port: 80, targetPort: 9090 }]
    await plane.call('POST', services, { metadata: { name: 'plc' }, spec: { clusterIP: '10.96.3.200', ports } })
    await plane.call('POST', '/apis/discovery.k8s.io/v1beta1/namespaces/default/endpointslices', {
      metadata: {
        name: 'plc-1',
        labels: { 'kubernetes.io/service-name': 'plc' },
        annotations: { 'edgemesh.kubeedge.io/via-node': 'edge-a1' },
      },
      addressType: 'IPv4',
      ports: [{ name: 'http', port: 9090, protocol: 'TCP' }],
      endpoints: [{ addresses: [machine.address], conditions: { ready: true } }],
    })
    for (const node of ['edge-b1', 'cloud-1', 'edge-a1']) {
      const client = lab.pod(`client-${node}`)
      await eventually(patienceMs, async () => assert.equal(await get(client, 'plc', '/', 3_000), 'edge-a2', node))
    }
  })
}

/** What the requests of the last second were answered with. */
function recentAnswersOf(client: SteadyRequests): string[] {
  const since = Date.now() - 1_000
  const recent = client.ended().filter(({ at }) => at >= since)
  return [...new Set(recent.flatMap(({ answer }) => answer ?? []))].sort()
}

const hosts = () => nodes.map((node) => lab.node(node))

function ipOf(node: string): string {
  return lab.pod(`web-${node}`).address
}

function tell(t: TestContext, what: string, times: readonly number[]): void {
  const worst = Math.max(...times)
  t.diagnostic(`${what}: median ${medianOf(times)} ms, worst ${worst} ms of ${times.length}`)
  assert.ok(worst <= patienceMs, `${worst} ms`)
}

/** Requests from two nodes over every kind of path. */
function startTraffic() {
  const urls = nodes.map((_, index) => `http://10.96.0.${index + 1}/`)
  const clients = [lab.pod('client-edge-a1'), lab.node('cloud-1')]
  return startSteadyRequestsOn(clients, urls, { everyMs: 100, timeoutMs: 20_000 })
}

async function assertNoneFailed(t: TestContext, clients: readonly SteadyRequests[]): Promise<void> {
  const requests = clients.flatMap((client) => client.ended())
  const failed = requests.filter(({ answer }) => answer === undefined)
  t.diagnostic(`${requests.length} requests, ${failed.length} failed`)
  assert.deepEqual(failed.slice(0, 5), [])
  assert.ok(requests.length >= outageMs / 100, 'there was no traffic')
}

/** A Service that is new reaches every node, so the agents follow the API. */
async function assertFollowed(t: TestContext, name: string, clusterIP: string): Promise<void> {
  const startedAt = performance.now()
  // The controllers need up to a minute after the API is back, so this one comes with its endpoint.
  await writeService(lab, name, clusterIP, [{ node: 'edge-b1', host: lab.pod('web-edge-b1') }])
  for (const node of nodes) {
    await eventually(60_000, async () => assert.equal(await get(lab.node(node), name, '/', 5_000), 'web-edge-b1'))
  }
  t.diagnostic(`a new Service is reached from every node after ${(performance.now() - startedAt).toFixed(0)} ms`)
}

function registerOutageTests(): void {
  test(`the API server hangs, is killed, stays away for ${outageMs / 1_000} s and has forgotten the past: no request fails`, async (t) => {
    const pids = nodes.map((node) => mesh.agent(node).pid)
    await using traffic = await startTraffic()
    await delay(1_000)
    plane.signalApiServer('SIGSTOP')
    await delay(outageMs / 4)
    await plane.killApiServer()
    await delay((outageMs * 3) / 4)
    await plane.compactEtcd()
    await plane.restartApiServer()
    await assertFollowed(t, 'after-outage', '10.96.4.81')
    await assertNoneFailed(t, traffic.clients)
    const now = await Promise.all(nodes.map(async (node) => (await statusOf(lab.node(node))).pid))
    assert.deepEqual(now.sort(), pids.sort(), 'an agent was restarted')
  })

  test('a token that has expired is named by status, costs no request, and counts once it is replaced on disk', async (t) => {
    await using traffic = await startTraffic()
    await plane.killApiServer()
    await plane.changeAgentToken('the-next-token')
    await plane.restartApiServer()
    await eventually(60_000, async () => {
      for (const node of nodes) {
        const { metadata } = await statusOf(lab.node(node))
        assert.match(metadata?.problems.join('\n') ?? '', /401/, node)
      }
    })
    await writeFile(join(plane.directory, 'agent-token'), 'the-next-token')
    await assertFollowed(t, 'after-token', '10.96.4.82')
    await assertNoneFailed(t, traffic.clients)
  })
}

if (!isWithoutEnvtest()) {
  before(start)
  after(() => lab?.[Symbol.asyncDispose]())
  registerPathTests(() => lab)
  describe('the server', registerServerTests)
  describe('changes', registerChangeTests)
  describe('machines', registerMachineTests)
  describe('an API that goes away', registerOutageTests)
}
