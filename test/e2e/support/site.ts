/** The lab that most end-to-end tests share: a server and a node in the cloud, two LANs behind NATs, a pod a node. */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import { agentEntries } from '../../../src/commands/manifests/agent.ts'
import type { StatusDocument } from '../../../src/commands/status-document.ts'
import { requestControl } from '../../../src/net/index.ts'
import { ControlPlane, type ControlPlaneOptions, storeInApi } from '../../envtest/index.ts'
import {
  createLab,
  type ExecResult,
  edgemeshBinary,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  type LabSpec,
  type ManifestPort,
  type NodeSpec,
  serviceManifest,
  startTestServer,
} from '../../lab/index.ts'

/** Ports of the Services `web-NODE`; the pods listen on 8000 more. */
export const ports = { http: 80, 'half-close': 81, echo: 82, reset: 83 } as const

/** Nodes that run a pod `web-NODE` behind a Service of that name. */
export const nodes = ['edge-a1', 'edge-a2', 'edge-b1', 'cloud-1'] as const

/** Where the client runs and what it reaches, seen from it. */
export const paths = [
  { name: 'same node', from: 'edge-a1', to: 'edge-a1' },
  { name: 'same LAN', from: 'edge-a1', to: 'edge-a2' },
  { name: 'edge to cloud', from: 'edge-a1', to: 'cloud-1' },
  { name: 'cloud to edge', from: 'cloud-1', to: 'edge-b1' },
  { name: 'edge to edge across two NATs', from: 'edge-a1', to: 'edge-b1' },
] as const

/** The network drawn in paths.test.ts. */
export const siteSpec: LabSpec = {
  cloud: { 'cloud-1': { pods: ['web-cloud-1', 'client-cloud-1'] }, relay: {} },
  lans: {
    a: {
      nodes: {
        'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'] },
        'edge-a2': { pods: ['web-edge-a2', 'client-edge-a2'] },
      },
    },
    b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['web-edge-b1', 'client-edge-b1'] } } },
  },
}

/** Where the agents of a lab have their objects from: a folder, or a real API server in the cloud. */
export type TestSource = 'folder' | 'api'

/** Env EDGEMESH_TEST_SOURCE=api runs the tests of a site on an API server. */
export const testSource: TestSource = process.env['EDGEMESH_TEST_SOURCE'] === 'api' ? 'api' : 'folder'

/** Builds a lab whose agents have their objects from that source. */
export async function createMeshLab(spec: LabSpec, source: TestSource = testSource): Promise<Lab> {
  return source === 'folder' ? await createLab(spec) : (await createClusterLab(spec)).lab
}

/** A lab with a real control plane on the cloud node `control-plane`, which ends with the lab. */
export async function createClusterLab(
  spec: LabSpec,
  options: Omit<ControlPlaneOptions, 'host'> = {},
): Promise<{ readonly lab: Lab; readonly plane: ControlPlane }> {
  const cloud = { ...nodeSpecsOf(spec.cloud), 'control-plane': {} }
  const lab = await createLab({ ...spec, cloud })
  return await orDispose(lab, async () => {
    const plane = await ControlPlane.start({ ...options, host: lab.node('control-plane') })
    lab.useManifests(await storeInApi(plane, agentRules))
    return { lab, plane }
  })
}

/** What the shipped role of the agent grants. */
export const agentRules = agentEntries({ namespace: 'kubeedge', image: 'none', servers: ['none'], psk: undefined })
  .map(({ object }) => object)
  .filter(({ kind }) => kind === 'ClusterRole')
  .flatMap((role) => role['rules'] as readonly object[])

function nodeSpecsOf(specs: LabSpec['cloud'] = []): Readonly<Record<string, NodeSpec>> {
  return Array.isArray(specs)
    ? Object.fromEntries(specs.map((name: string) => [name, {}]))
    : (specs as Readonly<Record<string, NodeSpec>>)
}

/** Builds the site, starts the servers of the pods `web-NODE` and writes their Services; no edgemesh yet. */
export async function createSite(
  spec: LabSpec = siteSpec,
  names: readonly string[] = nodes,
  source?: TestSource,
): Promise<Lab> {
  const lab = await createMeshLab(spec, source)
  return await orDispose(lab, async () => {
    await addWebServices(lab, names)
    return lab
  })
}

/** Starts the servers of the pods `web-NODE` and writes their Services. */
export async function addWebServices(lab: Lab, names: readonly string[] = nodes): Promise<void> {
  await Promise.all(names.map((node, at) => addWebService(lab, node, at + 1)))
}

async function orDispose<T>(lab: Lab, build: () => Promise<T>): Promise<T> {
  try {
    return await build()
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

/** What `startMesh` has started. */
export interface Mesh {
  readonly server: LabProcess
  /** The agent that was started on a node. */
  agent(node: string): LabProcess
}

/** Starts the server on `relay` and an agent on each node. */
export async function startMesh(
  lab: Lab,
  names: readonly string[] = nodes,
  config: Parameters<Lab['startAgent']>[1] = {},
): Promise<Mesh> {
  const server = await lab.startServer('relay')
  const started = names.map(async (node) => [node, await lab.startAgent(node, config)] as const)
  const agents = new Map(await Promise.all(started))
  return {
    server,
    agent(node) {
      const agent = agents.get(node)
      assert.ok(agent !== undefined, `no agent was started on ${node}`)
      return agent
    },
  }
}

/** Where a Service sends: a port of a host, meant on a node. */
export interface TestEndpoint {
  readonly node: string
  readonly host: Host
  /** Default: the HTTP port of the pods `web-NODE`. */
  readonly port?: number
}

/** Writes the manifest of a Service on port 80 of its ClusterIP; all endpoints listen on the port of the first. */
export async function writeService(
  lab: Lab,
  name: string,
  clusterIP: string,
  endpoints: readonly TestEndpoint[],
): Promise<void> {
  const servicePorts: ManifestPort[] = [{ port: 80, targetPort: endpoints[0]?.port ?? ports.http + 8000 }]
  const slice = endpointSliceManifest({
    serviceName: name,
    ports: servicePorts,
    endpoints: endpoints.map(({ node, host }) => ({ address: host.address, nodeName: node, podName: host.name })),
  })
  await lab.writeManifest(`${name}.yaml`, `${serviceManifest({ name, clusterIP, ports: servicePorts })}---\n${slice}`)
}

/** The ClusterIP that cluster DNS on the host's node gives for a Service of the namespace `default`. */
export async function resolve(host: Host, service: string): Promise<string> {
  const query = ['dig', '+short', '+tries=1', '+time=2', '@169.254.96.16', `${service}.default.svc.cluster.local`, 'A']
  const { stdout, stderr } = await host.exec(query)
  assert.match(stdout.trim(), /^[\d.]+$/, `${host.name}: ${service} resolves: ${stdout}${stderr}`)
  return stdout.trim()
}

/** What a Service's `GET PATH` answers to a fresh connection from this host. */
export async function get(host: Host, service: string, path = '/', timeoutMs = 10_000): Promise<string> {
  const url = `http://${await resolve(host, service)}${path}`
  const { code, stdout, stderr } = await host.exec(['curl', '-sS', '--max-time', String(timeoutMs / 1000), url], {
    timeoutMs: timeoutMs + 2_000,
  })
  assert.equal(code, 0, `${host.name}: curl ${service}: ${stderr}`)
  return stdout.trim()
}

/** Calls until the answer is what it shall be, and returns how long that took; rejects after `timeoutMs`. */
export async function eventually(timeoutMs: number, attempt: () => Promise<void>): Promise<number> {
  const startedAt = performance.now()
  for (;;) {
    try {
      await attempt()
      return performance.now() - startedAt
    } catch (error) {
      if (performance.now() - startedAt > timeoutMs) throw error
      await delay(50)
    }
  }
}

/** A request without DNS, for tests that stop the agent; its outcome is a result, whatever it is. */
export async function fetchFrom(host: Host, url: string, ...flags: string[]): Promise<ExecResult & { ms: number }> {
  const startedAt = performance.now()
  const result = await host.exec(['curl', '-sS', '--max-time', '8', ...flags, url])
  return { ...result, ms: performance.now() - startedAt }
}

/** Like `fetchFrom`, but must succeed; returns the body. */
export async function bodyFrom(host: Host, url: string, ...flags: string[]): Promise<string> {
  const { code, stdout, stderr } = await fetchFrom(host, url, ...flags)
  assert.equal(code, 0, `${host.name}: curl ${url}: ${stderr}`)
  return stdout.trim()
}

/** The connection is refused, not left to time out. */
export async function assertRefusedAtOnce(host: Host, url: string): Promise<void> {
  const { code, stderr, ms } = await fetchFrom(host, url)
  assert.equal(code, 7, `${host.name}: ${url} is not refused: ${stderr}`)
  assert.ok(ms < 1_000, `${host.name} waited ${ms} ms to be refused`)
}

/** Runs the executable to its end, as somebody who has logged in on the host. */
export async function edgemesh(host: Host, ...args: string[]): Promise<ExecResult> {
  return await host.exec([edgemeshBinary(), ...args], { timeoutMs: 20_000 })
}

/** The configuration file with which the lab starts a role on this host. */
export function configFileOf(host: Host, role: 'agent' | 'server' = 'agent'): string {
  return `${host.dir}/edgemesh-${role}.yaml`
}

/** What `edgemesh status --json` says on a host. */
export async function statusOf(host: Host, role: 'agent' | 'server' = 'agent'): Promise<StatusDocument> {
  const { stdout, stderr } = await edgemesh(host, 'status', role, '--json', '--config', configFileOf(host, role))
  assert.notEqual(stdout, '', `${host.name}: no status: ${stderr}`)
  const status: StatusDocument = JSON.parse(stdout)
  return status
}

/** The same without a process of its own, for tests that look often. */
export async function quickStatusOf(host: Host, role: 'agent' | 'server' = 'agent'): Promise<StatusDocument> {
  const socket = join(host.dir, role, 'run', 'control.sock')
  const status: StatusDocument = JSON.parse((await requestControl(socket, { method: 'GET', url: '/status' })).body)
  return status
}

/** Flows of an agent to others of this product that began on libp2p streams, not on links. */
export async function streamFlowsOf(host: Host): Promise<number> {
  const socket = join(host.dir, 'agent', 'run', 'control.sock')
  const { body } = await requestControl(socket, { method: 'GET', url: '/metrics' })
  return Number(/^edgemesh_tunnel_stream_flows_total\{peers="edgemesh"\} (\d+)/m.exec(body)?.[1] ?? 0)
}

/** Everything that edgemesh may change in a host's kernel, in lines that are equal when the state is. */
export async function kernelStateOf(host: Host): Promise<readonly string[]> {
  const commands = [
    'nft --stateless list ruleset',
    'iptables -S',
    'ip -brief link | awk \'{ $2 = ""; print }\'',
    'ip -4 -brief address | awk \'{ $2 = ""; print }\'',
    'ip -4 route show table all',
    'ip -4 rule',
    'cat /proc/sys/net/ipv4/ip_local_reserved_ports',
  ]
  const { code, stdout, stderr } = await host.exec(['sh', '-e', '-c', commands.join('\n')])
  assert.equal(code, 0, stderr)
  return stdout.split('\n')
}

async function addWebService(lab: Lab, node: string, number: number): Promise<void> {
  const pod = lab.pod(`web-${node}`)
  const servicePorts = Object.entries(ports).map(([name, port]) => ({ name, port, targetPort: port + 8000 }))
  const name = pod.name
  const endpoint = { address: pod.address, nodeName: node, podName: name }
  await Promise.all(
    Object.entries(ports).map(([kind, port]) =>
      startTestServer(pod, kind as keyof typeof ports, { port: port + 8000 }),
    ),
  )
  const service = serviceManifest({ name, clusterIP: `10.96.0.${number}`, ports: servicePorts })
  const slice = endpointSliceManifest({ serviceName: name, ports: servicePorts, endpoints: [endpoint] })
  await lab.writeManifest(`${name}.yaml`, `${service}---\n${slice}`)
}
