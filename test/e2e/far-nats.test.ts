/**
 * NATs that answer what they do not know by a reset, and are so far from each other that the dials of two nodes can cross:
 *
 *                    wan
 *     ┌────────┬──────┴───────┬─────────────────────┬─────────────────────┐
 *   relay   relay-2       (20 ms)               (20 ms)               (20 ms)
 *   servers               router-a              router-b              router-c       a and b reset, c drops
 *                         edge-a1               edge-b1               edge-c1
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { PeerStatus } from '../../src/tunnel/index.ts'
import { createLab, type Lab, startTestServer } from '../lab/index.ts'
import { bodyFrom, eventually, quickStatusOf, writeService } from './support/site.ts'

const oneWayMs = 20
const port = 8080
const nats = { a: 'resetting', b: 'resetting', c: 'port-preserving' } as const
const lans = Object.keys(nats) as (keyof typeof nats)[]
const edgeOf = (lan: string) => `edge-${lan}1`
const addressOf = (lan: keyof typeof nats) => `10.96.1.${lans.indexOf(lan) + 1}`

let lab: Lab
before(async () => {
  const sites = lans.map((lan) => [lan, { nat: nats[lan], nodes: [edgeOf(lan)] }] as const)
  lab = await createLab({ cloud: ['relay', 'relay-2'], lans: Object.fromEntries(sites) })
  for (const lan of lans) {
    await lab.stretchWan(lan, oneWayMs)
    const host = lab.node(edgeOf(lan))
    await startTestServer(host, 'http', { port })
    await writeService(lab, `web-${lan}`, addressOf(lan), [{ node: host.name, host, port }])
  }
  await Promise.all(['relay', 'relay-2'].map((node) => lab.startServer(node)))
  for (const lan of lans) await lab.startAgent(edgeOf(lan))
})
after(() => lab?.[Symbol.asyncDispose]())

async function peerOf(node: string, peer: string): Promise<PeerStatus> {
  const found = (await quickStatusOf(lab.node(node))).tunnel?.peers.find(({ name }) => name === peer)
  assert.ok(found !== undefined, `${node} does not know ${peer}`)
  return found
}

test('the line is as long as it is to be', async () => {
  await eventually(20_000, async () => {
    const servers = (await quickStatusOf(lab.node('edge-a1'))).tunnel?.servers ?? []
    assert.deepEqual(
      servers.map(({ roundTripMs = 0 }) => roundTripMs >= 2 * oneWayMs),
      [true, true],
    )
  })
})

for (const [from, to] of [
  ['a', 'b'],
  ['a', 'c'],
  ['c', 'b'],
] as const) {
  test(`a hole is punched between ${from} (${nats[from]}) and ${to} (${nats[to]})`, async (t) => {
    const host = lab.node(edgeOf(from))
    const get = async () => assert.equal(await bodyFrom(host, `http://${addressOf(to)}/`), edgeOf(to))
    await eventually(30_000, get)
    const startedAt = performance.now()
    await eventually(45_000, async () => {
      const { path, lastError } = await peerOf(host.name, edgeOf(to))
      assert.equal(path.kind, 'punched', lastError)
    })
    t.diagnostic(`punched ${(performance.now() - startedAt).toFixed(0)} ms after the first answer`)
    await get()
  })
}
