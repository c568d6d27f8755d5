/**
 * Every kind of connection on every path: {client on a host, in a pod} x {server on a host, in a pod} x paths x
 * scenarios, each a real connection through the real executable, with what both ends must see.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server  agent       ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * Clients run on the nodes and in the pods client-NODE, servers on the nodes and in the pods web-NODE.
 */
import assert from 'node:assert/strict'
import process from 'node:process'
import { after, before, describe, test } from 'node:test'
import type { Lab, RunningScript } from '../lab/index.ts'
import {
  type Cell,
  type Place,
  places,
  type Scenario,
  type ScriptedServices,
  startScriptedServices,
} from './support/scripted-services.ts'
import { createMeshLab, eventually, nodes, paths, siteSpec, startMesh, statusOf } from './support/site.ts'

type Path = (typeof paths)[number]

/** Idle connections wait while all others run, so this costs little; 120 is the full test. */
const idleMs = 1_000 * Number(process.env['EDGEMESH_TEST_IDLE_SECONDS'] ?? 60)
const KiB = 1024
const MiB = 1024 * KiB

const smallRequest: Scenario = {
  name: 'a small request',
  client: [{ send: 100 }, { receive: 200 }, 'end', 'receive the end'],
  server: [{ receive: 100 }, { send: 200 }, 'end', 'receive the end'],
  atClient: { bytes: 200, end: 'in order' },
  atServer: { bytes: 100, end: 'in order' },
}

const quick: readonly Scenario[] = [
  smallRequest,
  {
    name: 'a client that shuts down its side first gets the whole answer',
    client: [{ send: 300 * KiB }, 'end', 'receive the end'],
    server: ['receive the end', { send: MiB }, 'end'],
    atClient: { bytes: MiB, end: 'in order' },
    atServer: { bytes: 300 * KiB, end: 'in order' },
  },
  {
    name: 'a server that shuts down its side first gets the whole rest',
    client: ['receive the end', { send: MiB }, 'end'],
    server: [{ send: 300 * KiB }, 'end', 'receive the end'],
    atClient: { bytes: 300 * KiB, end: 'in order' },
    atServer: { bytes: MiB, end: 'in order' },
  },
  {
    name: 'a reset by the server in the middle of its answer',
    client: [{ receive: 256 * KiB }, { send: 100 }, 'receive the end'],
    server: [{ send: 256 * KiB }, { receive: 100 }, { send: 64 * KiB }, 'reset'],
    atClient: { bytes: [256 * KiB, 320 * KiB], end: 'ECONNRESET' },
    atServer: { bytes: 100, end: 'reset here' },
  },
  {
    name: 'a reset by the client in the middle of its request',
    client: [{ send: 256 * KiB }, { receive: 100 }, { send: 64 * KiB }, 'reset'],
    server: [{ receive: 256 * KiB }, { send: 100 }, 'receive the end'],
    atClient: { bytes: 100, end: 'reset here' },
    atServer: { bytes: [256 * KiB, 320 * KiB], end: 'ECONNRESET' },
  },
  {
    name: 'a server that closes at accept',
    client: ['receive the end', 'end'],
    atClient: { bytes: 0, end: 'in order' },
  },
]

const manyConnections: Scenario = {
  name: '200 connections at the same time',
  count: 200,
  client: [{ send: 1000 }, { receive: 1000 }, 'meet', { send: 1000 }, { receive: 2000 }, 'end', 'receive the end'],
  server: [{ receive: 1000 }, { send: 1000 }, { receive: 2000 }, { send: 1000 }, 'end', 'receive the end'],
  atClient: { bytes: 2000, end: 'in order' },
  atServer: { bytes: 2000, end: 'in order' },
}

const bulk: Scenario = {
  name: '64 MB each way at the same time',
  client: [{ send: 64 * MiB }, 'end', 'receive the end'],
  server: [{ send: 64 * MiB }, 'end', 'receive the end'],
  atClient: { bytes: 64 * MiB, end: 'in order' },
  atServer: { bytes: 64 * MiB, end: 'in order' },
}

const idle: Scenario = {
  name: 'an idle connection',
  client: [
    { send: 100 },
    { receive: 100 },
    { waitMs: idleMs },
    { send: 100 },
    { receive: 200 },
    'end',
    'receive the end',
  ],
  server: [{ receive: 100 }, { send: 100 }, { receive: 200 }, { send: 100 }, 'end', 'receive the end'],
  atClient: { bytes: 200, end: 'in order' },
  atServer: { bytes: 200, end: 'in order' },
}

let lab: Lab
let services: ScriptedServices
const idling: { readonly cells: readonly Cell[]; readonly running: RunningScript }[] = []

function cellOf(path: Path, from: Place, to: Place, scenario: Scenario): Cell {
  const client = from === 'host' ? lab.node(path.from) : lab.pod(`client-${path.from}`)
  return { id: `${path.name}, ${from} to ${to}: ${scenario.name}`, client, service: `${to}-${path.to}`, scenario }
}

/** The cells of a path and scenario by where the client runs. */
function cellsByClient(path: Path, scenario: Scenario): readonly (readonly Cell[])[] {
  return places.map((from) => places.map((to) => cellOf(path, from, to, scenario)))
}

before(async () => {
  lab = await createMeshLab(siteSpec)
  services = await startScriptedServices(lab, nodes)
  await startMesh(lab)
  await eventually(15_000, async () => {
    for (const path of paths)
      await services.run(
        places.map((to) => cellOf(path, 'host', to, smallRequest)),
        2_000,
      )
  })
  await eventually(10_000, assertPathKinds)
  for (const path of paths) {
    for (const cells of cellsByClient(path, idle)) {
      idling.push({ cells, running: await services.start(cells, idleMs + 60_000) })
    }
  }
})
after(() => lab?.[Symbol.asyncDispose]())

async function assertPathKinds(): Promise<void> {
  const { tunnel } = await statusOf(lab.node('edge-a1'))
  const kinds = Object.fromEntries((tunnel?.peers ?? []).map(({ name, path }) => [name, path.kind]))
  assert.deepEqual(kinds, { 'cloud-1': 'direct', 'edge-a2': 'lan', 'edge-b1': 'relayed' })
}

test('the edge reaches its LAN and the cloud directly, the other LAN through the relay', assertPathKinds)

describe('short connections', { concurrency: 2 }, () => {
  for (const path of paths) {
    describe(path.name, { concurrency: 1 }, () => {
      for (const scenario of quick) {
        test(scenario.name, async () => {
          await Promise.all(cellsByClient(path, scenario).map((cells) => services.run(cells)))
        })
      }
    })
  }
})

describe('one after the other', () => {
  for (const path of paths) {
    // From the cloud all goes through the relay, like across the LANs, which has the 64 MB.
    for (const scenario of path.name === 'cloud to edge' ? [manyConnections] : [manyConnections, bulk]) {
      test(`${path.name}: ${scenario.name}`, async (t) => {
        for (const cell of cellsByClient(path, scenario).flat()) {
          const startedAt = performance.now()
          await services.run([cell], 60_000)
          t.diagnostic(`${cell.id}: ${(performance.now() - startedAt).toFixed(0)} ms`)
        }
      })
    }
  }
})

test(`connections that were idle for ${idleMs / 1_000} s still carry`, async () => {
  for (const { cells, running } of idling) await services.verify(cells, await running.reports(idleMs + 30_000))
})

test('no connection is left open on any node', async () => {
  for (const node of nodes) {
    await eventually(5_000, async () => {
      const { proxy, tunnel } = await statusOf(lab.node(node))
      const flows = tunnel?.peers
        .map(({ name, openFlows }) => `${name}: ${openFlows}`)
        .filter((text) => !text.endsWith(': 0'))
      assert.deepEqual([proxy?.openConnections, flows], [0, []], node)
    })
  }
})
