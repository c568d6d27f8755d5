/**
 * Which path two nodes find, for each pair of networks they may be in. One agent a LAN, all pairs at the same time.
 *
 *                                      wan
 *    ┌──────────┬──────────┬──────────┬─┴────────┬──────────┬──────────┬──────────┐
 *  relay,    keeping    keeping-2  changing   changing-2  resetting  double ...  open, no-inbound, only-443
 *  relay-2   2 agents                                                  │
 *  servers                                                          carrier
 *
 * The servers listen on port 443, so that everybody can reach them.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { PeerStatus } from '../../src/tunnel/index.ts'
import { createLab, type Lab, type Nat, startTestServer } from '../lab/index.ts'
import { bodyFrom, eventually, quickStatusOf, writeService } from './support/site.ts'

const lans = {
  keeping: 'port-preserving',
  'keeping-2': 'port-preserving',
  changing: 'randomising',
  'changing-2': 'randomising',
  resetting: 'resetting',
  double: 'double',
  'only-443': 'only-443',
  'no-inbound': 'no-inbound',
  open: 'none',
} as const satisfies Record<string, Nat>

type LanName = keyof typeof lans
const names = Object.keys(lans) as LanName[]
const port = 8080

/** What is to be found between two networks; the order does not matter. */
function expectedPath(left: Nat, right: Nat): PeerStatus['path']['kind'] {
  const both = [left, right]
  if (both.includes('only-443')) return 'relayed'
  if (both.includes('none')) return 'direct'
  if (both.includes('randomising')) return 'relayed'
  // Without a NAT there is nothing to be punched but a firewall.
  return both.includes('no-inbound') ? 'direct' : 'punched'
}

const pairs = names.flatMap((from, index) => names.slice(index + 1).map((to) => ({ from, to })))
const edgeOf = (lan: LanName) => `edge-${lan}`
const addressOf = (lan: LanName) => `10.96.1.${names.indexOf(lan) + 1}`

let lab: Lab
before(async () => {
  const sites = Object.entries(lans).map(([lan, nat]) => {
    const nodes = lan === 'keeping' ? [`edge-${lan}`, 'neighbour'] : [`edge-${lan}`]
    return [lan, { nat, nodes }] as const
  })
  lab = await createLab({ cloud: ['relay', 'relay-2'], lans: Object.fromEntries(sites) })
  const tunnel = { modules: { edgeTunnel: { listenPort: 443 } } }
  await Promise.all(['relay', 'relay-2'].map((node) => lab.startServer(node, tunnel)))
  await Promise.all(
    names.map(async (lan) => {
      const host = lab.node(edgeOf(lan))
      await startTestServer(host, 'http', { port })
      await writeService(lab, `web-${lan}`, addressOf(lan), [{ node: host.name, host, port }])
    }),
  )
  await Promise.all(
    [...names.map(edgeOf), 'neighbour'].map((node) => lab.startAgent(node, {}, { readyTimeoutMs: 60_000 })),
  )
})
after(() => lab?.[Symbol.asyncDispose]())

async function peerOf(node: string, peer: string): Promise<PeerStatus> {
  const found = (await quickStatusOf(lab.node(node))).tunnel?.peers.find(({ name }) => name === peer)
  assert.ok(found !== undefined, `${node} does not know ${peer}`)
  return found
}

test('neighbours in a LAN are connected directly before there is traffic', async () => {
  await eventually(30_000, async () => {
    const { path } = await peerOf('neighbour', edgeOf('keeping'))
    assert.ok(path.kind === 'direct' && path.address.includes('192.168.1.11'), JSON.stringify(path))
  })
})

test('each pair of networks finds the best path that can be', { timeout: 150_000 }, async (t) => {
  const found = await Promise.all(
    pairs.map(async ({ from, to }) => {
      const { path, ms, firstMs, reason } = await settle(from, to)
      t.diagnostic(
        `${from} - ${to}: ${path} ${ms.toFixed(0)} ms after its first answer, which took ${firstMs.toFixed(0)} ms${reason}`,
      )
      return `${from} - ${to}: ${path}`
    }),
  )
  assert.deepEqual(
    found,
    pairs.map(({ from, to }) => `${from} - ${to}: ${expectedPath(lans[from], lans[to])}`),
  )
})

/** Sends traffic until the path is better than relayed, or cannot be expected to become so. */
async function settle(from: LanName, to: LanName) {
  const host = lab.node(edgeOf(from))
  const get = async () => assert.equal(await bodyFrom(host, `http://${addressOf(to)}/`), edgeOf(to))
  const firstMs = await eventually(30_000, get)
  const isRelayedExpected = expectedPath(lans[from], lans[to]) === 'relayed'
  const startedAt = performance.now()
  for (;;) {
    const { path, lastError } = await peerOf(host.name, edgeOf(to))
    const ms = performance.now() - startedAt
    if (path.kind !== 'relayed' || ms > (isRelayedExpected ? 15_000 : 45_000)) {
      await get()
      return { path: path.kind, ms, firstMs, reason: lastError === undefined ? '' : ` (${lastError})` }
    }
    await delay(250)
  }
}
