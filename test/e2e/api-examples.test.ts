/**
 * The files of examples/ in a real API server, reached through the mesh, with Pods played by the lab:
 *
 *                              wan
 *     ┌──────────┬────────┬─────┴──────┬────────────────┐
 *   relay  control-plane cloud-1    router-a         router-b        NATs
 *   server  etcd, API    agent         │                │
 *           controllers  gateway    edge-a1          edge-b1         agents
 *                        cloud-pod     │                │
 *                        client-…   edge-pod-1       edge-pod-2, -3
 *                                   client-edge-a1   client-edge-b1
 */
import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { after, before, suite, type TestContext, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { gatewayEntries } from '../../src/commands/manifests/gateway.ts'
import { type ControlPlane, createObject, isWithoutEnvtest } from '../envtest/index.ts'
import { edgemeshBinary, type Host, type Lab } from '../lab/index.ts'
import { type AppliedExamples, applyExamples, type Places, placesOf } from './support/example-site.ts'
import { gatewayConfig } from './support/gateway-site.ts'
import { offerIstioKinds } from './support/istio-kinds.ts'
import { createClusterLab, eventually, startMesh } from './support/site.ts'

const nodes = ['cloud-1', 'edge-a1', 'edge-b1'] as const
const patienceMs = 20_000
const names = readdirSync(new URL('../../examples/', import.meta.url))
  .filter((name) => name.endsWith('.yaml'))
  .map((name) => name.replace('.yaml', ''))

let lab: Lab
let plane: ControlPlane
let places: Places

async function start(): Promise<void> {
  ;({ lab, plane } = await createClusterLab(
    {
      cloud: { 'cloud-1': { pods: ['cloud-pod', 'client-cloud-1'] }, relay: {} },
      lans: {
        a: { nodes: { 'edge-a1': { pods: ['edge-pod-1', 'client-edge-a1'] } } },
        b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['edge-pod-2', 'edge-pod-3', 'client-edge-b1'] } } },
      },
    },
    { controllers: true },
  ))
  places = {
    cloud: placesOf(lab, { 'cloud-pod': 'cloud-1' }),
    edge: placesOf(lab, { 'edge-pod-1': 'edge-a1', 'edge-pod-2': 'edge-b1', 'edge-pod-3': 'edge-b1' }),
  }
  for (const name of nodes) {
    const labels = name.startsWith('edge') ? { 'node-role.kubernetes.io/edge': '' } : {}
    await plane.call('POST', '/api/v1/nodes', { metadata: { name, labels } })
  }
  await offerIstioKinds(plane, lab.node('control-plane'))
  await startMesh(lab, nodes)
  await startGateway()
}

/** Starts a gateway on `cloud-1` with the rights that its shipped manifests grant. */
async function startGateway(): Promise<void> {
  const host = lab.node('cloud-1')
  const settings = { namespace: 'kubeedge', image: 'none', servers: ['none'] as const, psk: undefined }
  const granted = gatewayEntries(settings, [{ namespace: 'edgemesh-test', name: 'gw-secret' }])
  for (const namespace of ['kubeedge', 'edgemesh-test']) {
    await createObject(plane, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
  }
  for (const { object } of granted) {
    if (/Role|ServiceAccount/.test(object.kind)) await createObject(plane, object)
  }
  const token = await plane.serviceAccountToken('kubeedge', 'edgemesh-gateway')
  const kubeConfig = await plane.writeKubeconfig('gateway', { token })
  const file = await gatewayConfig(host, lab, {}, { kubeAPIConfig: { kubeConfig } })
  const config = parse(await readFile(file, 'utf8'))
  const servers = [`${lab.node('relay').address}:20004`]
  config.modules.edgeTunnel = { enable: true, servers, psk: { path: join(lab.dir, 'psk') } }
  await writeFile(file, stringify(config))
  const gateway = host.spawn([edgemeshBinary(), 'gateway', '--config', file])
  await gateway.waitForLine(/"msg":"gateway ready"/, 20_000)
}

/** What the manual of the Go system says of its gateway: from outside of the mesh every Pod answers. */
async function answersOutside(pods: AppliedExamples['pods'], scheme: string, ...options: string[]): Promise<void> {
  const url = `${scheme}://${lab.node('cloud-1').address}:12345`
  const names = new Set<string>()
  await eventually(patienceMs, async () => {
    const { stdout, stderr } = await lab.node('relay').exec(['curl', '-sS', '--max-time', '2', ...options, url])
    names.add(stdout.trim())
    assert.deepEqual([...names].filter((name) => name !== '').sort(), pods.map(({ name }) => name).sort(), stderr)
  })
}

/** As the manual makes it; gives the options of its curl command. */
async function makeGatewaySecret(): Promise<string[]> {
  const host = lab.node('cloud-1')
  const [key, crt] = [join(host.dir, 'tls.key'), join(host.dir, 'tls.crt')]
  const subject = ['-keyout', key, '-out', crt, '-subj', '/CN=kubeedge.io']
  await host.exec(['openssl', 'req', '-x509', '-nodes', '-days', '365', '-newkey', 'rsa:2048', ...subject])
  const data = { 'tls.crt': await readFile(crt, 'base64'), 'tls.key': await readFile(key, 'base64') }
  const metadata = { namespace: 'edgemesh-test', name: 'gw-secret' }
  await createObject(plane, { apiVersion: 'v1', kind: 'Secret', type: 'kubernetes.io/tls', metadata, data })
  return ['-k', '--cert', crt, '--key', key]
}

/** How each example is reached; all files must be here. */
const reached: Readonly<Record<string, (applied: AppliedExamples, t: TestContext) => Promise<void>>> = {
  hostname: ({ pods }) => answersEverywhere(pods.map(({ name }) => name)),
  'hostname-udp': async ({ pods }) => {
    const [pod] = pods
    assert.ok(pod)
    await eventually(patienceMs, async () => {
      const name = await run(
        lab.pod(`client-${pod.place.node}`),
        'udp-name-client.ts',
        'hostname-udp-svc.edgemesh-test',
        '12345',
      )
      assert.equal(name, pod.name)
    })
  },
  'tcp-echo-service': ({ pods }) => everywhere((client) => echoes(client, 'tcp-echo-service.edgemesh-test', pods[0])),
  'websocket-pod-svc': () =>
    everywhere(async (client) => {
      const url = 'ws://ws-svc.edgemesh-test:12348/echo'
      const long = 'x'.repeat(40_000)
      assert.equal(await run(client, 'websocket-client.ts', url, 'one', long, 'three'), `one\n${long}\nthree`)
    }),
  'hostname-lb-roundrobin': async ({ pods }) => {
    // A backend whose dial took a second, as on a busy machine, is passed over for a while.
    await eventually(2 * patienceMs, async () => {
      const counts = await sharesOf(lab.pod('client-cloud-1'), pods.length)
      assert.deepEqual(counts, Object.fromEntries(pods.map(({ name }) => [name, 10])))
    })
  },
  'hostname-lb-random': ({ pods }) => answersEverywhere(pods.map(({ name }) => name)),
  'hostname-lb-consistenthash': ({ pods }) => answersEverywhere(pods.map(({ name }) => name)),
  'hostname-lb-sessionaffinity': ({ pods }) => answersEverywhere(pods.map(({ name }) => name)),
  'hostname-lb-random-gateway': ({ pods }) => answersOutside(pods, 'http'),
  'hostname-lb-random-gateway-tls': async ({ pods }) => {
    await answersOutside(pods, 'https', ...(await makeGatewaySecret()))
  },
}

/** The first Service of the file answers on every node with one of these names. */
async function answersEverywhere(podNames: readonly string[]): Promise<void> {
  const service = podNames.length > 1 ? 'hostname-lb-svc' : 'hostname-svc'
  await everywhere(async (client) => {
    const name = await ask(client, service)
    assert.ok(podNames.includes(name), name)
  })
}

async function ask(client: Host, service: string): Promise<string> {
  const url = `http://${service}.edgemesh-test:12345`
  const { code, stdout, stderr } = await client.exec(['curl', '-sS', '--max-time', '2', url])
  assert.equal(code, 0, `${client.name}: ${stderr}`)
  return stdout.trim()
}

/** How often each pod answers, of ten requests a pod. */
async function sharesOf(client: Host, pods: number): Promise<Record<string, number>> {
  // Which pods there are arrives one by one.
  await eventually(patienceMs, async () => {
    const recent = new Set<string>()
    for (let request = 0; request < pods; request++) recent.add(await ask(client, 'hostname-lb-svc'))
    assert.equal(recent.size, pods)
  })
  const counts: Record<string, number> = {}
  for (let request = 0; request < 10 * pods; request++) {
    const name = await ask(client, 'hostname-lb-svc')
    counts[name] = (counts[name] ?? 0) + 1
  }
  return Object.fromEntries(Object.entries(counts).sort())
}

/** From a pod on each node. */
async function everywhere(attempt: (client: Host) => Promise<void>): Promise<void> {
  for (const node of nodes) await eventually(patienceMs, () => attempt(lab.pod(`client-${node}`)))
}

/** The TCP echo greets with where it runs, and sends back what it gets. */
async function echoes(client: Host, service: string, pod: AppliedExamples['pods'][number] | undefined): Promise<void> {
  assert.ok(pod)
  const script = `exec 3<>/dev/tcp/${service}/2701; echo hello >&3; head -3 <&3`
  const { stdout, stderr } = await client.exec(['timeout', '5', 'bash', '-c', script])
  const [welcome = '', running = '', echo] = stdout.split('\n')
  assert.equal(welcome, `Welcome, you are connected to node ${pod.place.node}.`, stderr)
  assert.ok(running.includes(`Pod ${pod.name},`) && running.includes(pod.place.host.address), running)
  assert.equal(echo, 'hello')
}

async function run(client: Host, script: string, ...args: string[]): Promise<string> {
  const argv = [process.execPath, join(import.meta.dirname, 'support', script), ...args]
  const { code, stdout, stderr } = await client.exec(argv, { timeoutMs: 15_000 })
  assert.equal(code, 0, `${client.name}: ${stdout}${stderr}`)
  return stdout.trim()
}

if (!isWithoutEnvtest()) {
  before(start)
  after(() => lab?.[Symbol.asyncDispose]())

  suite('examples in a cluster', () => {
    const zones = ['cloudzone', 'edgezone']
    test('are all reached here', () => {
      assert.deepEqual([...Object.keys(reached), ...zones].sort(), names.toSorted())
    })

    for (const [name, reach] of Object.entries(reached)) {
      test(name, async (t) => {
        await using applied = await applyExamples(plane, places, [name])
        await reach(applied, t)
      })
    }

    test('cloudzone and edgezone: from the cloud to the edge, and from the edge to the cloud', async () => {
      await using applied = await applyExamples(plane, places, zones)
      const pod = (name: string) => applied.pods.find((each) => each.name === name)
      const clientBeside = (name: string) => lab.pod(`client-${pod(name)?.place.node}`)
      const [toEdge, toCloud] = ['tcp-echo-edge-svc.edgezone', 'tcp-echo-cloud-svc.cloudzone']
      await eventually(patienceMs, () => echoes(clientBeside('busybox-sleep-cloud'), toEdge, pod('tcp-echo-edge')))
      await eventually(patienceMs, () => echoes(clientBeside('busybox-sleep-edge'), toCloud, pod('tcp-echo-cloud')))
    })
  })
}
