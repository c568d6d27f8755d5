/** The lab that most end-to-end tests share: a server and a node in the cloud, two LANs behind NATs, a pod a node. */
import assert from 'node:assert/strict'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabSpec,
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

/** Builds the site, starts the pods' servers and writes their Services; no edgemesh yet. */
export async function createSite(spec: LabSpec = siteSpec): Promise<Lab> {
  const lab = await createLab(spec)
  try {
    await Promise.all(nodes.map((node, at) => addWebService(lab, node, at + 1)))
    return lab
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

/** Starts the server on `relay` and an agent on each node. */
export async function startMesh(lab: Lab): Promise<void> {
  await lab.startServer('relay')
  await Promise.all(nodes.map((node) => lab.startAgent(node)))
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
      await new Promise((resume) => setTimeout(resume, 50))
    }
  }
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
