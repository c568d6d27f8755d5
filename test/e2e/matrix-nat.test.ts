/**
 * Connections across two LANs, whatever their NATs do with source ports.
 *
 *              wan
 *     ┌─────────┼──────────┐
 *   relay    router-a   router-b     NATs under test
 *   server      │          │
 *            edge-a1    edge-b1      agents; servers on the nodes and in the pods web-NODE, clients in client-NODE
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { LabSpec, Nat } from '../lab/index.ts'
import { type Cell, places, type Scenario, startScriptedServices } from './support/scripted-services.ts'
import { createMeshLab, eventually, startMesh, statusOf } from './support/site.ts'

const MiB = 1024 * 1024
const nodes = ['edge-a1', 'edge-b1'] as const
const kinds: readonly Nat[] = ['port-preserving', 'randomising']

const request: Scenario = {
  name: 'request',
  client: [{ send: 100 }, { receive: 200 }, 'end', 'receive the end'],
  server: [{ receive: 100 }, { send: 200 }, 'end', 'receive the end'],
  atClient: { bytes: 200, end: 'in order' },
  atServer: { bytes: 100, end: 'in order' },
}

const transfer: Scenario = {
  name: '2 MB each way on 5 connections at once',
  count: 5,
  client: [{ send: 2 * MiB }, 'end', 'receive the end'],
  server: [{ send: 2 * MiB }, 'end', 'receive the end'],
  atClient: { bytes: 2 * MiB, end: 'in order' },
  atServer: { bytes: 2 * MiB, end: 'in order' },
}

function specOf(a: Nat, b: Nat): LabSpec {
  const node = (name: string) => ({ nodes: { [name]: { pods: [`web-${name}`, `client-${name}`] } } })
  return { cloud: ['relay'], lans: { a: { nat: a, ...node('edge-a1') }, b: { nat: b, ...node('edge-b1') } } }
}

for (const a of kinds) {
  for (const b of kinds) {
    test(`${a} and ${b}: each side reaches the other`, async (t) => {
      await using lab = await createMeshLab(specOf(a, b))
      const services = await startScriptedServices(lab, nodes)
      const startedAt = performance.now()
      await startMesh(lab, nodes)
      const cells = (from: string, to: string, scenario: Scenario): Cell[] =>
        places.map((place) => ({
          id: `${from} to ${place}-${to}: ${scenario.name}`,
          client: lab.pod(`client-${from}`),
          service: `${place}-${to}`,
          scenario,
        }))
      const both = (scenario: Scenario) =>
        Promise.all([
          services.run(cells('edge-a1', 'edge-b1', scenario)),
          services.run(cells('edge-b1', 'edge-a1', scenario)),
        ])
      await eventually(10_000, async () => void (await both(request)))
      t.diagnostic(`both ways work ${(performance.now() - startedAt).toFixed(0)} ms after the start of the server`)
      await both(transfer)
      const best = a === 'port-preserving' && b === 'port-preserving' ? 'punched' : 'relayed'
      await eventually(20_000, async () => {
        const { tunnel } = await statusOf(lab.node('edge-a1'))
        assert.deepEqual(
          tunnel?.peers.map(({ name, path }) => [name, path.kind]),
          [['edge-b1', best]],
        )
      })
      await both(transfer)
    })
  }
}
