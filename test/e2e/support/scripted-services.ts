/** Services `host-NODE` and `pod-NODE` that do what the client's script says, and what both ends must have seen. */
import assert from 'node:assert/strict'
import {
  type EndReport,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  type RunningScript,
  runScripts,
  type ScriptedConnection,
  type Step,
  serviceManifest,
  sha256OfTestBytes,
  startScripts,
  startTestServer,
} from '../../lab/index.ts'
import { resolve } from './site.ts'

/** Where a client or a server of a node runs: in the node's own network, or in a pod. */
export const places = ['host', 'pod'] as const
export type Place = (typeof places)[number]

/** The port of the Services that follows scripts; the next one closes each connection at accept. */
const scriptPort = 80
const targetPort = 8090

/** What an end must have seen. */
export interface Expected {
  /** How many bytes have come, at least and at most; one number says both. */
  readonly bytes: number | readonly [least: number, most: number]
  readonly end: string
}

/** One kind of connection, and how it must end at both ends. */
export interface Scenario {
  readonly name: string
  /** How many connections of it are open at the same time. Default 1. */
  readonly count?: number
  readonly client: readonly Step[]
  /** Absent for the port that closes at accept. */
  readonly server?: readonly Step[]
  readonly atClient: Expected
  readonly atServer?: Expected
}

/** A scenario between two places. */
export interface Cell {
  /** Names it among all cells of a test. */
  readonly id: string
  readonly client: Host
  /** `host-NODE` or `pod-NODE`. */
  readonly service: string
  readonly scenario: Scenario
}

/** The Services and the servers behind them. */
export interface ScriptedServices {
  /** Runs cells of one client host at the same time, in one process, and verifies each. */
  run(cells: readonly Cell[], timeoutMs?: number): Promise<void>
  /** Starts cells of one client host and does not wait. */
  start(cells: readonly Cell[], timeoutMs: number): Promise<RunningScript>
  /** Compares what both ends of the cells have seen with what they must see; waits for what the servers say. */
  verify(cells: readonly Cell[], reports: readonly EndReport[], timeoutMs?: number): Promise<void>
}

/** Starts the servers of the nodes, in pods `web-NODE` and on the nodes, and writes their Services. */
export async function startScriptedServices(lab: Lab, nodes: readonly string[]): Promise<ScriptedServices> {
  const sites = nodes.flatMap((node) => places.map((place) => ({ node, place })))
  const started = sites.map(async ({ node, place }, at): Promise<[string, LabProcess]> => {
    const host = place === 'host' ? lab.node(node) : lab.pod(`web-${node}`)
    const server = await startTestServer(host, 'script-server', { port: targetPort })
    await writeScriptedService(lab, `${place}-${node}`, `10.96.8.${at + 1}`, { node, address: host.address })
    return [`${place}-${node}`, server]
  })
  const servers = new Map(await Promise.all(started))
  const verify = async (cells: readonly Cell[], reports: readonly EndReport[], timeoutMs = 5_000) => {
    for (const cell of cells) await verifyCell(cell, reports, { servers, timeoutMs })
  }
  return {
    async run(cells, timeoutMs) {
      await verify(cells, await runScripts(clientOf(cells), await connectionsOf(cells), timeoutMs))
    },
    start: async (cells, timeoutMs) => startScripts(clientOf(cells), await connectionsOf(cells), timeoutMs),
    verify,
  }
}

async function writeScriptedService(
  lab: Lab,
  name: string,
  clusterIP: string,
  { node, address }: { readonly node: string; readonly address: string },
): Promise<void> {
  const ports = [
    { name: 'script', port: scriptPort, targetPort },
    { name: 'closing', port: scriptPort + 1, targetPort: targetPort + 1 },
  ]
  const slice = endpointSliceManifest({ serviceName: name, ports, endpoints: [{ address, nodeName: node }] })
  await lab.writeManifest(`${name}.yaml`, `${serviceManifest({ name, clusterIP, ports })}---\n${slice}`)
}

const clientSeed = 4

function clientOf([first]: readonly Cell[]): Host {
  assert.ok(first !== undefined, 'no cell')
  return first.client
}

async function connectionsOf(cells: readonly Cell[]): Promise<readonly ScriptedConnection[]> {
  const opened = cells.map(async ({ id, client, service, scenario }): Promise<ScriptedConnection[]> => {
    const address = await resolve(client, service)
    const { count = 1, server } = scenario
    const port = server === undefined ? scriptPort + 1 : scriptPort
    const rest = { address, port, seed: clientSeed, client: scenario.client, ...(server && { server }) }
    return Array.from({ length: count }, (_, index) => ({ id: `${id} #${index}`, ...rest }))
  })
  return (await Promise.all(opened)).flat()
}

async function verifyCell(
  { id, service, scenario }: Cell,
  reports: readonly EndReport[],
  { servers, timeoutMs }: { readonly servers: ReadonlyMap<string, LabProcess>; readonly timeoutMs: number },
): Promise<void> {
  const { count = 1, atClient, atServer } = scenario
  const ours = reports.filter((report) => report.id.startsWith(`${id} #`))
  assert.equal(ours.length, count, id)
  for (const report of ours) assertSeen('client', report, clientSeed + 1, atClient)
  if (atServer === undefined) return
  const server = servers.get(service)
  assert.ok(server !== undefined, `no server is behind ${service}`)
  for (const { id: ourId } of ours) {
    const line = await server.waitForLine(new RegExp(`^{"id":"${ourId}"`), timeoutMs)
    assertSeen('server', JSON.parse(line), clientSeed, atServer)
  }
}

function assertSeen(side: string, report: EndReport, seed: number, { bytes, end }: Expected): void {
  const who = `${side}: ${JSON.stringify(report)}`
  const [least, most] = typeof bytes === 'number' ? [bytes, bytes] : bytes
  assert.equal(report.end, end, who)
  assert.ok(report.bytes >= least && report.bytes <= most, `${who}, but ${least} to ${most} bytes are right`)
  assert.equal(report.sha256, digestOf(report.bytes, seed), who)
}

const digests = new Map<string, string>()

function digestOf(bytes: number, seed: number): string {
  const key = `${bytes} ${seed}`
  const digest = digests.get(key) ?? sha256OfTestBytes(bytes, seed)
  digests.set(key, digest)
  return digest
}
