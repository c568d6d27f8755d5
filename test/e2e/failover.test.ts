/**
 * What goes away and what works on: backends, the server, the WAN, manifests. With the real executable.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server  agent       ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * Each node has the pods web-NODE (servers behind the Service of that name) and client-NODE; the client is always
 * client-edge-a1.
 */
import assert from 'node:assert/strict'
import { after, before, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Host, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import {
  bodyFrom,
  createSite,
  eventually,
  fetchFrom,
  get,
  type Mesh,
  paths,
  ports,
  resolve,
  startMesh,
  statusOf,
  testSource,
  writeService,
} from './support/site.ts'
import { startSteadyFlow } from './support/steady-flow.ts'

let lab: Lab
let mesh: Mesh
let server: LabProcess
let client: Host
before(async () => {
  lab = await createSite()
  mesh = await startMesh(lab)
  server = mesh.server
  client = lab.pod('client-edge-a1')
  await eventually(15_000, async () => {
    for (const { from, to } of paths) await get(lab.node(from), `web-${to}`, '/', 5_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

/** Waits for an answer of a Service, both ways across the LANs; that time is told. */
async function acrossLansWithin(t: TestContext, timeoutMs: number, since: string): Promise<void> {
  const reach = (from: string, to: string) =>
    eventually(timeoutMs, () => assertAnswers(lab.node(from), `web-${to}`, 2_000))
  const [there, back] = await Promise.all([reach('edge-a1', 'edge-b1'), reach('edge-b1', 'edge-a1')])
  t.diagnostic(`across LANs ${there.toFixed(0)} ms, and the other way ${back.toFixed(0)} ms after ${since}`)
  assert.ok(Math.max(there, back) <= timeoutMs)
}

async function assertAnswers(host: Host, service: string, timeoutMs?: number): Promise<void> {
  assert.equal(await get(host, service, '/', timeoutMs), service)
}

/** What needs neither server nor WAN, on LAN a. */
async function assertLanWorks(): Promise<void> {
  for (const from of [client, lab.node('edge-a2')]) {
    await assertAnswers(from, 'web-edge-a1')
    await assertAnswers(from, 'web-edge-a2')
  }
}

describe('a Service with backends on two other nodes', () => {
  const port = 9000
  const url = 'http://10.96.2.1/'
  const backends = ['edge-b1', 'cloud-1'] as const
  const start = (node: string) => startTestServer(lab.pod(`web-${node}`), 'http', { port })
  let servers: Record<(typeof backends)[number], LabProcess>

  before(async () => {
    servers = { 'edge-b1': await start('edge-b1'), 'cloud-1': await start('cloud-1') }
    await writeService(
      lab,
      'two',
      '10.96.2.1',
      backends.map((node) => ({ node, host: lab.pod(`web-${node}`), port })),
    )
    await eventually(5_000, async () => void (await bodyFrom(client, url, '--max-time', '1')))
  })

  /** How many of 20 requests each backend has answered; every request must be answered. */
  async function shares(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {}
    for (let request = 0; request < 20; request++) {
      const name = await bodyFrom(client, url)
      counts[name] = (counts[name] ?? 0) + 1
    }
    return counts
  }

  test('requests take turns', async () => {
    assert.deepEqual(await shares(), { 'web-edge-b1': 10, 'web-cloud-1': 10 })
  })

  test('no request fails when one backend dies, and it gets its share again when it is back', async (t) => {
    await servers['edge-b1'].stop('SIGKILL')
    assert.deepEqual(await shares(), { 'web-cloud-1': 20 })
    servers['edge-b1'] = await start('edge-b1')
    const backMs = await eventually(30_000, async () => assert.equal(await bodyFrom(client, url), 'web-edge-b1'))
    t.diagnostic(`the backend that came back was used again after ${backMs.toFixed(0)} ms`)
    assert.deepEqual(await shares(), { 'web-edge-b1': 10, 'web-cloud-1': 10 })
  })

  test('no request fails when the node of a backend drops off the network, and few wait for it', async (t) => {
    await lab.cutWan('b')
    const waits: number[] = []
    for (let request = 0; request < 20; request++) {
      const { code, stdout, stderr, ms } = await fetchFrom(client, url, '--max-time', '15')
      assert.equal(code, 0, stderr)
      assert.equal(stdout.trim(), 'web-cloud-1')
      waits.push(ms)
    }
    await lab.restoreWan('b')
    const slow = waits.filter((ms) => ms > 1_000)
    t.diagnostic(`of 20 requests ${slow.length} waited: ${slow.map((ms) => `${ms.toFixed(0)} ms`).join(', ')}`)
    assert.ok(slow.length <= 4, 'a backend that has just failed is tried again and again')
    const backMs = await eventually(30_000, async () => assert.equal(await bodyFrom(client, url), 'web-edge-b1'))
    t.diagnostic(`its backend was used again ${backMs.toFixed(0)} ms after it was back`)
  })

  test('with all backends dead the client is reset and the log says why', async (t) => {
    await Promise.all(Object.values(servers).map((process) => process.stop('SIGKILL')))
    const { code, stderr, ms } = await fetchFrom(client, url)
    t.diagnostic(`reset after ${ms.toFixed(0)} ms`)
    // curl calls a reset that comes before it has looked at its connection a failed connect.
    assert.ok(code === 56 || code === 7, `${code}: ${stderr}`)
    const line = await mesh.agent('edge-a1').waitForLine(/"msg":"connection reset"/)
    const { servicePort, reason }: Record<string, string> = JSON.parse(line)
    assert.equal(servicePort, 'default/two:80/tcp')
    for (const node of backends) {
      assert.ok(reason?.includes(`connect ECONNREFUSED ${lab.pod(`web-${node}`).address}:${port} on ${node}`), reason)
    }
  })
})

describe('manifests change', () => {
  const hosts = (node: string) => [{ node, host: lab.pod(`web-${node}`) }]

  test('an endpoint that moves to another node is followed, without a failed request', async (t) => {
    const url = 'http://10.96.2.2/'
    await writeService(lab, 'moving', '10.96.2.2', hosts('edge-b1'))
    await eventually(5_000, () => assertBody('moving', 'web-edge-b1'))
    await writeService(lab, 'moving', '10.96.2.2', hosts('cloud-1'))
    const seen: string[] = []
    const movedMs = await eventually(5_000, async () => {
      const result = await fetchFrom(client, url)
      seen.push(result.code === 0 ? result.stdout.trim() : result.stderr)
      assert.equal(seen.at(-1), 'web-cloud-1')
    })
    t.diagnostic(`followed after ${movedMs.toFixed(0)} ms and ${seen.length - 1} requests to the old place`)
    const others = seen.filter((answer) => answer !== 'web-edge-b1' && answer !== 'web-cloud-1')
    assert.deepEqual(others, [])
  })

  test('a Service that is deleted has no name and no address any more', async (t) => {
    await writeService(lab, 'passing', '10.96.2.3', hosts('edge-b1'))
    await eventually(5_000, () => assertBody('passing', 'web-edge-b1'))
    await lab.removeManifest('passing.yaml')
    const goneMs = await eventually(5_000, async () => assert.equal(await dnsStatusOf('passing'), 'NXDOMAIN'))
    t.diagnostic(`gone after ${goneMs.toFixed(0)} ms`)
    await eventually(5_000, async () => {
      const { code } = await fetchFrom(client, 'http://10.96.2.3/', '--max-time', '1')
      assert.notEqual(code, 0)
    })
  })

  if (testSource === 'folder') {
    test('a broken file is named with its line, and everything else goes on', async () => {
      const agent = mesh.agent('edge-a1')
      await writeService(lab, 'steady', '10.96.2.4', hosts('edge-b1'))
      await eventually(5_000, () => assertBody('steady', 'web-edge-b1'))
      await lab.writeManifest('broken.yaml', 'apiVersion: v1\nkind: Service\nmetadata: {name: broken\nspec: {}\n')
      const line = await agent.waitForLine(/"file":"broken\.yaml:\d+"/)
      assert.match(line, /"level":"warn"/)
      // The file of a Service in use breaks: its last good state stays in force.
      await lab.writeManifest('steady.yaml', 'apiVersion: v1\nkind: [Service\n')
      await agent.waitForLine(/"file":"steady\.yaml:\d+"/)
      await assertBody('steady', 'web-edge-b1')
      await assertAnswers(client, 'web-edge-b1')
      await writeService(lab, 'after', '10.96.2.5', hosts('cloud-1'))
      await eventually(5_000, () => assertBody('after', 'web-cloud-1'))
      const { metadata } = await statusOf(lab.node('edge-a1'))
      assert.deepEqual(metadata?.problems.map((problem) => problem.replace(/:\d+: .*/s, '')).sort(), [
        'broken.yaml',
        'steady.yaml',
      ])
    })
  }

  /** Gives up early: a first packet that comes before the rules is lost, and so are those that repeat it. */
  const assertBody = async (service: string, body: string) => assert.equal(await get(client, service, '/', 1_000), body)

  async function dnsStatusOf(service: string): Promise<string | undefined> {
    const { stdout } = await client.exec(['dig', '+tries=1', '+time=2', `${service}.default.svc.cluster.local`])
    return /status: (\w+)/.exec(stdout)?.[1]
  }
})

describe('the WAN of a LAN is cut', () => {
  test('its inside works on, and the rest is back soon after', async (t) => {
    await lab.cutWan('a')
    const cutAt = performance.now()
    await assertLanWorks()
    const { code } = await fetchFrom(client, 'http://10.96.0.3/', '--max-time', '2')
    assert.notEqual(code, 0, 'edge-b1 is reached although the WAN is cut')
    await assertLanWorks()
    await delay(Math.max(0, 4_000 - (performance.now() - cutAt)))
    await lab.restoreWan('a')
    await acrossLansWithin(t, 15_000, 'the cable was back')
  })
})

describe('the server is killed', () => {
  test('what does not cross it works on, and the rest within 5 s of its start; it is the same peer', async (t) => {
    const identity = (await statusOf(lab.node('relay'), 'server')).server?.peerId
    await using crossing = await startSteadyFlow(client, await resolve(client, 'web-edge-b1'), ports.echo)
    await using inside = await startSteadyFlow(client, await resolve(client, 'web-edge-a2'), ports.echo)
    await server.stop('SIGKILL')
    await assertLanWorks()
    await assertAnswers(client, 'web-cloud-1')
    assert.match(await resolve(client, 'web-edge-b1'), /^10\.96\./)
    const { stdout } = await client.exec(['dig', '+short', 'upstream.example'])
    assert.equal(stdout.trim(), '198.51.100.7')
    server = await lab.startServer('relay')
    await acrossLansWithin(t, 5_000, 'the server was ready')
    assert.equal((await statusOf(lab.node('relay'), 'server')).server?.peerId, identity)
    await inside.carries()
    await crossing.carries()
  })

  test('an agent that starts without it serves its node and LAN, and the rest once it is there', async (t) => {
    await server.stop('SIGKILL')
    await mesh.agent('edge-a1').stop()
    const startedAt = performance.now()
    await lab.startAgent('edge-a1')
    await assertAnswers(client, 'web-edge-a1')
    t.diagnostic(`the node's own endpoint answers ${(performance.now() - startedAt).toFixed(0)} ms after the start`)
    const lanMs = await eventually(15_000, () => assertLanWorks())
    t.diagnostic(`the LAN neighbour answers ${lanMs.toFixed(0)} ms later`)
    server = await lab.startServer('relay')
    await acrossLansWithin(t, 5_000, 'the server was ready')
  })

  test('neighbours that are both started without it still know each other', async (t) => {
    await Promise.all([server.stop('SIGKILL'), lab.node('edge-a1').stopAll(), mesh.agent('edge-a2').stop()])
    await Promise.all([lab.startAgent('edge-a1'), lab.startAgent('edge-a2')])
    const lanMs = await eventually(15_000, () => assertLanWorks())
    t.diagnostic(`neighbours reach each other ${lanMs.toFixed(0)} ms after both were ready`)
    server = await lab.startServer('relay')
    await acrossLansWithin(t, 5_000, 'the server was ready')
  })
})
