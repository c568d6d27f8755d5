/**
 * Connections that go on where they were after what carried them was away:
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server              ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * The client is always the pod client-edge-a1; its connections are relayed to edge-b1, and direct to edge-a2.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Host, Lab } from '../lab/index.ts'
import { createSite, eventually, get, type Mesh, ports, resolve, siteSpec, startMesh } from './support/site.ts'
import { type SteadyFlow, startSteadyFlow } from './support/steady-flow.ts'

const nodes = ['edge-a1', 'edge-a2', 'edge-b1'] as const

let lab: Lab
let mesh: Mesh
let client: Host
before(async () => {
  lab = await createSite(siteSpec, nodes)
  mesh = await startMesh(lab, nodes)
  client = lab.pod('client-edge-a1')
  await eventually(15_000, async () => {
    for (const node of ['edge-a2', 'edge-b1']) await get(client, `web-${node}`, '/', 5_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

async function flowTo(node: string): Promise<SteadyFlow> {
  return await startSteadyFlow(client, await resolve(client, `web-${node}`), ports.echo)
}

test('a relayed connection goes on after its server was killed and started again', async (t) => {
  await using crossing = await flowTo('edge-b1')
  await using inside = await flowTo('edge-a2')
  await mesh.server.stop('SIGKILL')
  await delay(3_000)
  await inside.carries()
  await lab.startServer('relay')
  const startedMs = performance.now()
  await crossing.carries(20_000)
  t.diagnostic(`it goes on ${(performance.now() - startedMs).toFixed(0)} ms after the server was ready`)
})

test('connections go on after their lines were dead for 30 s', async (t) => {
  await using crossing = await flowTo('edge-b1')
  await using inside = await flowTo('edge-a2')
  const cables = [
    { router: lab.router('b'), port: 'wan0' },
    { router: lab.router('a'), port: 'port1' },
  ]
  const set = (state: 'up' | 'down') =>
    Promise.all(cables.map(({ router, port }) => router.exec(['ip', 'link', 'set', port, state])))
  await set('down')
  await delay(30_000)
  await set('up')
  const backMs = performance.now()
  await Promise.all([crossing.carries(20_000), inside.carries(20_000)])
  t.diagnostic(`they go on ${(performance.now() - backMs).toFixed(0)} ms after the lines were back`)
})

test('a connection to an agent that was killed is reset once another process is there', async () => {
  await using inside = await flowTo('edge-a2')
  await mesh.agent('edge-a2').stop('SIGKILL')
  await lab.startAgent('edge-a2')
  assert.match(await inside.ended(15_000), /ECONNRESET/)
})
