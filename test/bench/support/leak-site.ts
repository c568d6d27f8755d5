/**
 * The site of the leak run and the kinds of load on it. All of them reach the agents as clients do.
 *
 *                       wan ── resolver
 *        ┌──────────┬────┴──────────┬───────────┐
 *      relay     cloud-1         router-a    router-b
 *      server                  ┌────┴─────┐     │
 *                           edge-a1    edge-a2  edge-b1     agents; TCP echo servers in web-edge-a2 and web-edge-b1,
 *                              │                            the load comes from a pod of edge-a1
 *                        client-edge-a1
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { StatusDocument } from '../../../src/commands/status-document.ts'
import { requestControl } from '../../../src/net/index.ts'
import { createSite, eventually, get, type Mesh, ports, startMesh } from '../../e2e/support/site.ts'
import { endpointSliceManifest, type Host, type Lab, type LabProcess, serviceManifest } from '../../lab/index.ts'
import type { LoadReport } from '../load/report.ts'
import { type Observed, observedOn } from './observed.ts'

const agentNames = ['edge-a1', 'edge-a2', 'edge-b1', 'cloud-1'] as const

/** Clusters' addresses of the Services that `createSite` writes, in the order of `agentNames`. */
const clusterIPs = { 'edge-a2': '10.96.0.2', 'edge-b1': '10.96.0.3' } as const

/** One for each agent's web server, and the UDP echo. */
const siteServices = agentNames.length + 1

const udpEcho = { clusterIP: '10.96.0.90', port: 5301 } as const

/** A running site whose agents know each other. */
export interface LeakSite extends AsyncDisposable {
  readonly lab: Lab
  readonly mesh: Mesh
  /** The agents and the server. */
  readonly observed: readonly Observed[]
  /** Connections of a pod through its node's userspace proxy: over the relay to edge-b1, or over the LAN to edge-a2. */
  connect(to: keyof typeof clusterIPs, count: number): Promise<LoadReport>
  /** Datagrams of a pod to edge-b1 over the relay, each from a port of its own. */
  exchange(count: number): Promise<LoadReport>
  /** DNS queries of a pod: names of the cluster, names that do not exist, names of the outside. */
  query(count: number): Promise<LoadReport>
  /** Edits of the manifests; each is waited for until every agent has taken it. */
  change(count: number): Promise<LoadReport>
  /** Cuts all TCP connections between agents and server, and between agents; each cut is waited for until all are back. */
  reconnect(count: number): Promise<LoadReport>
  /** The same while a pod keeps connections to edge-a2 and edge-b1; those that do not outlive it are failures. */
  outlive(count: number): Promise<LoadReport>
  /** Cuts the line of the LAN for half a second, with the same connections. */
  pause(count: number): Promise<LoadReport>
}

export async function startLeakSite(): Promise<LeakSite> {
  const lab = await createSite(
    {
      cloud: { relay: {}, 'cloud-1': { pods: ['web-cloud-1'] } },
      lans: {
        a: {
          nodes: {
            'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'] },
            'edge-a2': { pods: ['web-edge-a2'] },
          },
        },
        b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['web-edge-b1'] } } },
      },
    },
    agentNames,
  )
  try {
    const client = lab.pod('client-edge-a1')
    await Promise.all([client, ...agentNames.map((name) => lab.node(name))].map(widenPortRange))
    await startUdpEcho(lab)
    const mesh = await startMesh(lab, agentNames)
    for (const to of ['web-edge-a2', 'web-edge-b1']) {
      await eventually(15_000, async () => void (await get(client, to, '/', 3_000)))
    }
    return new RunningSite(lab, mesh)
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}

class RunningSite implements LeakSite {
  readonly lab: Lab
  readonly mesh: Mesh
  readonly observed: readonly Observed[]
  #changes = 0
  #kept: readonly LabProcess[] | undefined
  #looks = 0

  constructor(lab: Lab, mesh: Mesh) {
    this.lab = lab
    this.mesh = mesh
    const server = lab.node('relay')
    this.observed = [
      ...agentNames.map((name) => observedOn(lab.node(name), 'agent', mesh.agent(name).pid)),
      observedOn(server, 'server', mesh.server.pid),
    ]
  }

  connect(to: keyof typeof clusterIPs, count: number): Promise<LoadReport> {
    const settings = { address: clusterIPs[to], port: ports.echo, count, concurrency: 16 }
    return this.#load('tcp-clients', settings)
  }

  exchange(count: number): Promise<LoadReport> {
    return this.#load('udp-clients', { address: udpEcho.clusterIP, port: udpEcho.port, count, concurrency: 16 })
  }

  query(count: number): Promise<LoadReport> {
    const inside = (name: string) => `${name}.default.svc.cluster.local`
    const questions = [
      { name: inside('web-edge-b1'), type: 'A', rcode: 'NOERROR', data: clusterIPs['edge-b1'] },
      { name: inside('web-edge-a2'), type: 'A', rcode: 'NOERROR', data: clusterIPs['edge-a2'] },
      { name: inside('web-edge-a2'), type: 'AAAA', rcode: 'NOERROR' },
      { name: inside('missing-*'), type: 'A', rcode: 'NXDOMAIN' },
      { name: 'upstream.example', type: 'A', rcode: 'NOERROR', data: '198.51.100.7' },
      { name: 'missing-*.example', type: 'A', rcode: 'NXDOMAIN' },
    ]
    return this.#load('dns-clients', { server: '169.254.96.16', questions, count, concurrency: 16 })
  }

  change(count: number): Promise<LoadReport> {
    return repeat(count, async () => {
      const number = this.#changes++
      const services = 1 + (number % 2)
      await this.lab.writeManifest('churn.json', churnManifest(number, services))
      const expected = siteServices + services
      await Promise.all(this.#agents.map((agent) => untilServices(agent, expected)))
    })
  }

  reconnect(count: number): Promise<LoadReport> {
    return repeat(count, async () => {
      await cutConnections(this.lab.node('relay'), 'sport = :20004')
      await cutConnections(this.lab.node('edge-a1'), '( sport = :20006 or dport = :20006 )')
      // An agent that has lost its server waits at least 150 ms before it tries again.
      await delay(100)
      await Promise.all(this.#agents.map(untilConnected))
    })
  }

  outlive(count: number): Promise<LoadReport> {
    return this.#keeping(() => this.reconnect(count))
  }

  pause(count: number): Promise<LoadReport> {
    return this.#keeping(() => {
      return repeat(count, async () => {
        await this.lab.cutWan('a')
        await delay(500)
        await this.lab.restoreWan('a')
        await delay(500)
      })
    })
  }

  /** Does the work while connections are kept, and counts those that are lost. */
  async #keeping(work: () => Promise<LoadReport>): Promise<LoadReport> {
    this.#kept ??= await Promise.all(
      Object.values(clusterIPs).map((address) => startKept(this.lab.pod('client-edge-a1'), address)),
    )
    const report = await work()
    this.#looks += 1
    const look = this.#looks
    const lost = await Promise.all(this.#kept.map((kept) => lossesOf(kept, look)))
    const failures: Record<string, number> = {}
    for (const [reason, times] of lost.flatMap((each) => Object.entries(each))) {
      failures[reason] = (failures[reason] ?? 0) + times
    }
    return { ...report, failures }
  }

  get #agents(): readonly Observed[] {
    return this.observed.filter(({ name }) => name !== 'relay')
  }

  async #load(
    script: string,
    settings: { readonly count: number; readonly [key: string]: unknown },
  ): Promise<LoadReport> {
    const client = this.lab.pod('client-edge-a1')
    const file = join(import.meta.dirname, '..', 'load', `${script}.ts`)
    const { code, stdout, stderr } = await client.exec([process.execPath, file, JSON.stringify(settings)], {
      timeoutMs: 60_000 + settings.count * 20,
    })
    assert.equal(code, 0, `${script}: ${stderr}`)
    const report: LoadReport = JSON.parse(stdout)
    return report
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lab[Symbol.asyncDispose]()
  }
}

async function startUdpEcho(lab: Lab): Promise<void> {
  const pod = lab.pod('web-edge-b1')
  const { clusterIP, port } = udpEcho
  const script = join(import.meta.dirname, '..', 'load', 'udp-echo.ts')
  await pod.spawn([process.execPath, script, 'server', String(port)]).waitForLine(/^listening/)
  const name = 'udp-echo'
  const servicePorts = [{ port, protocol: 'UDP' as const }]
  const endpoints = [{ address: pod.address, nodeName: 'edge-b1', podName: pod.name }]
  const slice = endpointSliceManifest({ serviceName: name, ports: servicePorts, endpoints })
  await lab.writeManifest(`${name}.yaml`, `${serviceManifest({ name, clusterIP, ports: servicePorts })}---\n${slice}`)
}

const keptConnections = 32

async function startKept(client: Host, address: string): Promise<LabProcess> {
  const script = join(import.meta.dirname, '..', 'load', 'kept-clients.ts')
  const kept = client.spawn([process.execPath, script, address, String(ports.echo), String(keptConnections)])
  assert.match(await kept.waitForLine(/^look 0 /, 30_000), /\{\}$/)
  return kept
}

async function lossesOf(kept: LabProcess, look: number): Promise<Readonly<Record<string, number>>> {
  kept.kill('SIGUSR2')
  const line = await kept.waitForLine(new RegExp(`^look ${look} `), 60_000)
  return JSON.parse(line.slice(line.indexOf('{')))
}

async function repeat(count: number, work: () => Promise<void>): Promise<LoadReport> {
  const startedMs = performance.now()
  for (let done = 0; done < count; done++) await work()
  return { succeeded: count, failures: {}, seconds: (performance.now() - startedMs) / 1000 }
}

/** More connections a minute than a host's 28,000 ephemeral ports outlive in TIME_WAIT. */
async function widenPortRange(host: Host): Promise<void> {
  const settings = [
    'echo "1100 65000" > /proc/sys/net/ipv4/ip_local_port_range',
    'echo 1 > /proc/sys/net/ipv4/tcp_tw_reuse',
  ]
  const { code, stderr } = await host.exec(['sh', '-e', '-c', settings.join('\n')])
  assert.equal(code, 0, stderr)
}

async function cutConnections(host: Host, which: string): Promise<void> {
  const { code, stderr } = await host.exec(['sh', '-c', `ss --kill --tcp state established '${which}'`])
  assert.equal(code, 0, stderr)
}

async function statusOf({ controlSocket }: Observed): Promise<StatusDocument> {
  const request = { method: 'GET', url: '/status' } as const
  const { body } = await requestControl(controlSocket, request, AbortSignal.timeout(10_000))
  const status: StatusDocument = JSON.parse(body)
  return status
}

async function untilServices(agent: Observed, expected: number): Promise<void> {
  await eventually(10_000, async () => {
    const { metadata } = await statusOf(agent)
    assert.equal(metadata?.services, expected, `${agent.name} has not taken the change`)
  })
}

async function untilConnected(agent: Observed): Promise<void> {
  await eventually(10_000, async () => {
    const { tunnel } = await statusOf(agent)
    assert.ok(
      tunnel?.servers.every(({ connected, reserved }) => connected && reserved),
      `${agent.name} has no server`,
    )
  })
}

/** Services that differ from change to change in number, ClusterIP and endpoints; a third of the endpoints is local. */
function churnManifest(number: number, services: number): string {
  const items = Array.from({ length: services }, (_, index) => {
    const name = `churn-${index}`
    const port = { name: 'http', port: 80, protocol: 'TCP' }
    const clusterIP = `10.97.${(number >> 7) % 256}.${1 + ((2 * number + index) % 250)}`
    return [
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { namespace: 'default', name },
        spec: { type: 'ClusterIP', clusterIP, clusterIPs: [clusterIP], ports: [{ ...port, targetPort: 8080 }] },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { namespace: 'default', name: `${name}-1`, labels: { 'kubernetes.io/service-name': name } },
        addressType: 'IPv4',
        ports: [{ ...port, port: 8080 }],
        endpoints: agentNames.map((nodeName, at) => ({
          addresses: [`10.244.${50 + at}.${1 + (number % 250)}`],
          conditions: { ready: true },
          nodeName,
        })),
      },
    ]
  })
  return JSON.stringify({ apiVersion: 'v1', kind: 'List', items: items.flat() })
}
