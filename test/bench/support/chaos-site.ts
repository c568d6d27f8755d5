/**
 * The site of the chaos run:
 *
 *                                   wan ── resolver
 *     ┌────────┬─────────┬─────────────┴────┬───────────────┬─────────────┐
 *   relay   relay-2   cloud-1            router-a        router-b      router-c     NATs; b gives each connection a random
 *   server  server    agent, named    ┌─────┴─────┐         │             │         port, the others keep it
 *                     in relayNodes  edge-a1   edge-a2    edge-b1       edge-c1     agents
 *
 * Each node has a pod `web-NODE` (chaos-server.ts) behind a Service of that name, and a pod `client-NODE` (chaos-clients.ts) with
 * traffic to all others. The agents log at level `debug` into files.
 */
import assert from 'node:assert/strict'
import { mkdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import process from 'node:process'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentConfig } from '../../../src/config/index.ts'
import { eventually, fetchFrom, quickStatusOf } from '../../e2e/support/site.ts'
import {
  createLab,
  type DeepPartial,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  type LabSpec,
  serviceManifest,
} from '../../lab/index.ts'
import { chaosPorts } from '../load/chaos-flows.ts'

export const agentNodes = ['cloud-1', 'edge-a1', 'edge-a2', 'edge-b1', 'edge-c1'] as const
export type AgentNode = (typeof agentNodes)[number]
export const serverNodes = ['relay', 'relay-2'] as const
export type ServerNode = (typeof serverNodes)[number]
export const lanOf: Readonly<Record<AgentNode, string | undefined>> = {
  'cloud-1': undefined,
  'edge-a1': 'a',
  'edge-a2': 'a',
  'edge-b1': 'b',
  'edge-c1': 'c',
}
export const spreadAddress = '10.96.9.100'
const spreadNodes = ['cloud-1', 'edge-b1', 'edge-a2'] as const

const podsOf = (node: AgentNode) => ({ pods: [`web-${node}`, `client-${node}`] })
const spec: LabSpec = {
  cloud: { relay: {}, 'relay-2': {}, 'cloud-1': podsOf('cloud-1') },
  lans: {
    a: { nodes: { 'edge-a1': podsOf('edge-a1'), 'edge-a2': podsOf('edge-a2') } },
    b: { nat: 'randomising', nodes: { 'edge-b1': podsOf('edge-b1') } },
    c: { nodes: { 'edge-c1': podsOf('edge-c1') } },
  },
}

/** Whether flows between two nodes need no relay when nothing stands in their way. */
export function isDirectable(from: AgentNode, to: AgentNode): boolean {
  const [a, b] = [lanOf[from], lanOf[to]]
  return a === undefined || b === undefined || a === b || (from !== 'edge-b1' && to !== 'edge-b1')
}

export const addressOf = (node: AgentNode) => `10.96.9.${1 + agentNodes.indexOf(node)}`

export class ChaosSite implements AsyncDisposable {
  readonly lab: Lab
  /** Where the logs are. */
  readonly folder: string
  readonly agents = new Map<AgentNode, LabProcess>()
  readonly servers = new Map<ServerNode, LabProcess>()
  readonly clients = new Map<AgentNode, LabProcess>()
  /** Keys of `edgeTunnel.paths` that agents were started with. */
  readonly limitedPaths = new Map<AgentNode, readonly string[]>()
  readonly webs = new Map<AgentNode, LabProcess>()
  readonly #seed: number
  /** How often each process has said that it is ready. */
  readonly #starts = new Map<string, number>()

  constructor(lab: Lab, folder: string, seed: number) {
    this.lab = lab
    this.folder = folder
    this.#seed = seed
  }

  logOf(node: AgentNode | ServerNode): string {
    return join(this.folder, `${node}.log`)
  }

  /** Starts the server of a node and waits until it is ready. */
  async startServer(node: ServerNode): Promise<void> {
    const server = await this.lab.startServer(node, { logLevel: 'debug' }, this.#into(node))
    await this.#untilReady(node, server)
    this.servers.set(node, server)
  }

  /** Starts the agent of a node and waits until it is ready. */
  async startAgent(
    node: AgentNode,
    paths: DeepPartial<AgentConfig['modules']['edgeTunnel']['paths']> = {},
  ): Promise<void> {
    const relayNodes = [{ nodeName: 'cloud-1', advertiseAddress: [this.lab.node('cloud-1').address] }]
    const config = { logLevel: 'debug', modules: { edgeTunnel: { relayNodes, paths } } } as const
    const agent = await this.lab.startAgent(node, config, this.#into(node))
    await this.#untilReady(node, agent)
    this.agents.set(node, agent)
  }

  async startWebs(): Promise<void> {
    await Promise.all(
      agentNodes.map(async (node) => {
        const pod = this.lab.pod(`web-${node}`)
        const web = pod.spawn([process.execPath, script('chaos-server.ts'), pod.name])
        await web.waitForLine(/^listening/, 20_000)
        this.webs.set(node, web)
        const ports = [
          { name: 'flows', port: chaosPorts.flows },
          { name: 'http', port: chaosPorts.http },
          { name: 'udp', port: chaosPorts.udp, protocol: 'UDP' as const },
        ]
        const endpoints = [{ address: pod.address, nodeName: node, podName: pod.name }]
        const slice = endpointSliceManifest({ serviceName: pod.name, ports, endpoints })
        const service = serviceManifest({ name: pod.name, clusterIP: addressOf(node), ports })
        await this.lab.writeManifest(`${pod.name}.yaml`, `${service}---\n${slice}`)
      }),
    )
    await this.writeSpread(spreadNodes)
  }

  /** The Service with several endpoints. */
  async writeSpread(nodes: readonly AgentNode[]): Promise<void> {
    const ports = [{ name: 'http', port: chaosPorts.http }]
    const endpoints = nodes.map((node) => {
      const pod = this.lab.pod(`web-${node}`)
      return { address: pod.address, nodeName: node, podName: pod.name }
    })
    const slice = endpointSliceManifest({ serviceName: 'spread', ports, endpoints })
    const service = serviceManifest({ name: 'spread', clusterIP: spreadAddress, ports })
    await this.lab.writeManifest('spread.yaml', `${service}---\n${slice}`)
  }

  /** Some of the endpoints that the Service may have. */
  get spreadNodes(): readonly AgentNode[] {
    return spreadNodes
  }

  startClients(): void {
    for (const [at, node] of agentNodes.entries()) {
      const targets = agentNodes
        .filter((other) => other !== node)
        .map((other) => ({ node: other, address: addressOf(other) }))
      const settings = { name: node, seed: this.#seed * 10 + at + 1, targets, spread: spreadAddress }
      const client = this.lab.pod(`client-${node}`)
      const log = join(this.folder, `client-${node}.log`)
      const argv = [
        'sh',
        '-c',
        'exec "$@" >>"$0"',
        log,
        process.execPath,
        script('chaos-clients.ts'),
        JSON.stringify(settings),
      ]
      this.clients.set(node, client.spawn(argv))
    }
  }

  /** Waits until each node answers each other one, and what can be direct is. */
  async untilWhole(timeoutMs: number): Promise<number> {
    return await eventually(timeoutMs, async () => {
      for (const from of agentNodes) {
        for (const to of agentNodes.filter((other) => other !== from)) {
          const url = `http://${addressOf(to)}:${chaosPorts.http}/`
          const { stdout } = await fetchFrom(this.lab.pod(`client-${from}`), url, '--max-time', '3')
          assert.equal(stdout, `web-${to}`, `${from} to ${to}`)
        }
        const peers = (await quickStatusOf(this.lab.node(from))).tunnel?.peers ?? []
        for (const { name, path } of peers) {
          assert.equal(
            path.kind !== 'relayed',
            isDirectable(from, name as AgentNode),
            `${from} to ${name} is ${path.kind}`,
          )
        }
      }
    })
  }

  processOf(node: AgentNode | ServerNode): LabProcess {
    const found = this.agents.get(node as AgentNode) ?? this.servers.get(node as ServerNode)
    assert.ok(found !== undefined, node)
    return found
  }

  router(lan: string): Host {
    return this.lab.router(lan)
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.lab[Symbol.asyncDispose]()
  }

  #into(node: AgentNode | ServerNode) {
    const through = ['sh', '-c', 'exec "$@" 2>>"$0"', this.logOf(node)]
    return { through, readyTimeoutMs: 0 } as const
  }

  async #untilReady(node: AgentNode | ServerNode, started: LabProcess): Promise<void> {
    const ready = (this.#starts.get(node) ?? 0) + 1
    this.#starts.set(node, ready)
    for (let attempt = 0; attempt < 400; attempt++) {
      // The file has the lines of the processes before this one as well.
      const text = await readFile(this.logOf(node), 'utf8').catch(() => '')
      if ((text.match(/"msg":"(agent|server) ready"/g)?.length ?? 0) >= ready) return
      if (started.exit !== undefined) throw new Error(`${node} has ended: ${text.slice(-2_000)}`)
      await delay(50)
    }
    throw new Error(`${node} is not ready after 20 s`)
  }
}

const script = (name: string) => join(import.meta.dirname, '..', 'load', name)

/** Builds the network and starts servers, agents and the pods' servers, but no traffic. */
export async function startChaosSite(folder: string, seed: number): Promise<ChaosSite> {
  await mkdir(folder, { recursive: true })
  const lab = await createLab(spec)
  const site = new ChaosSite(lab, folder, seed)
  try {
    await site.startWebs()
    for (const node of serverNodes) await site.startServer(node)
    await Promise.all(agentNodes.map((node) => site.startAgent(node)))
    return site
  } catch (error) {
    await lab[Symbol.asyncDispose]()
    throw error
  }
}
