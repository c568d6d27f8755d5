/**
 * Every path a connection can take, with the real executable and real clients.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server  agent       ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * Each node has the pods web-NODE (servers behind the Service of that name) and client-NODE.
 */
import { after, before } from 'node:test'
import type { Lab } from '../lab/index.ts'
import { registerPathTests } from './support/path-tests.ts'
import { createSite, eventually, get, paths, startMesh } from './support/site.ts'

let lab: Lab
before(async () => {
  lab = await createSite()
  await startMesh(lab)
  await eventually(15_000, async () => {
    for (const { from, to } of paths) await get(lab.node(from), `web-${to}`, '/', 5_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

registerPathTests(() => lab)
