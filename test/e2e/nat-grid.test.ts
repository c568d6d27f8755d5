/**
 * Which path two nodes find, for each pair of networks they may be in, two of each kind. All pairs at the same time.
 *
 *                                      wan
 *    ┌──────────┬──────────┬───────────┴────┬──────────────────┬────────────────┐
 *  relay,    keeping    keeping-2   ...   double            only-proxy  ...   (16 LANs, one agent each)
 *  relay-2   2 agents                       │               2 agents; an HTTP proxy on the router,
 *  servers                                carrier           which opens port 443 alone
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentConfig } from '../../src/config/index.ts'
import type { PeerStatus } from '../../src/tunnel/index.ts'
import {
  createLab,
  type DeepPartial,
  type Lab,
  type LabProcess,
  type Nat,
  startTestServer,
  type Traffic,
  trafficOf,
} from '../lab/index.ts'
import { bodyFrom, eventually, quickStatusOf, streamFlowsOf, writeService } from './support/site.ts'

const nats = {
  open: 'none',
  keeping: 'port-preserving',
  resetting: 'resetting',
  double: 'double',
  'no-inbound': 'no-inbound',
  changing: 'randomising',
  'only-443': 'only-443',
  'only-proxy': 'only-proxy',
} as const satisfies Record<string, Nat>

type Kind = keyof typeof nats
const kinds = Object.keys(nats) as Kind[]
const lans = kinds.flatMap((kind) => [
  { kind, lan: kind },
  { kind, lan: `${kind}-2` },
])
/** LANs with a second node. */
const shared: readonly Kind[] = ['keeping', 'only-proxy']
const port = 8080
const proxyPort = 3128

type PathKind = PeerStatus['path']['kind']

/** What is to be found between two networks; the order does not matter. */
function expectedPath(left: Kind, right: Kind): PathKind | 'either' {
  const both = [nats[left], nats[right]]
  const has = (...some: Nat[]) => both.some((nat) => some.includes(nat))
  if (has('only-443', 'only-proxy')) return 'relayed'
  if (has('none')) return 'direct'
  if (has('randomising')) return 'relayed'
  // The first dials must cross, or each closes the other's way; here they have microseconds for it, in far-nats milliseconds.
  if (left === 'resetting' && right === 'resetting') return 'either'
  // Without a NAT there is nothing to be punched but a firewall.
  return has('no-inbound') ? 'direct' : 'punched'
}

/** Each unordered pair of kinds once, from the first LAN of the one to the first or second of the other. */
const pairs = kinds.flatMap((left, index) =>
  kinds.slice(index).map((right) => ({ from: left, to: left === right ? `${right}-2` : right, left, right })),
)
const edgeOf = (lan: string) => `edge-${lan}`
const addressOf = (lan: string) => `10.96.1.${lans.findIndex((entry) => entry.lan === lan) + 1}`

/** Links are let go, and holes given up, a minute after the last flow. */
const restMs = 80_000
const watchMs = 30_000
/**
 * Signs of life to two servers take 1,200 bytes in this time, asking the router for a port the same, and a proxy that refuses the
 * other port of each server 3,300. All that is tried for a direct path takes 10,000 and more; this limit is 17 MB a day.
 */
const idleBytes = 6_000

let lab: Lab
let agents: readonly LabProcess[]
before(async () => {
  const sites = lans.map(({ kind, lan }) => {
    const nodes = (shared as readonly string[]).includes(lan) ? [edgeOf(lan), `neighbour-${lan}`] : [edgeOf(lan)]
    return [lan, { nat: nats[kind], nodes }] as const
  })
  lab = await createLab({ cloud: ['relay', 'relay-2'], lans: Object.fromEntries(sites) })
  const onTwoPorts = { modules: { edgeTunnel: { morePorts: [443] } } }
  await Promise.all(['relay', 'relay-2'].map((node) => lab.startServer(node, onTwoPorts)))
  await Promise.all([...lans.map(startTarget), ...lans.flatMap(({ kind, lan }) => startProxy(kind, lan))])
  // A few at a time: on a small machine each would wait for all others.
  const starts = lans.flatMap(({ kind, lan }) => {
    const nodes = (shared as readonly string[]).includes(lan) ? [edgeOf(lan), `neighbour-${lan}`] : [edgeOf(lan)]
    return nodes.map((node) => () => lab.startAgent(node, configOf(kind, lan), { readyTimeoutMs: 60_000 }))
  })
  const started: LabProcess[] = []
  while (starts.length > 0) started.push(...(await Promise.all(starts.splice(0, 6).map((start) => start()))))
  agents = started
})
after(() => lab?.[Symbol.asyncDispose]())

async function startTarget({ lan }: { readonly lan: string }): Promise<void> {
  const host = lab.node(edgeOf(lan))
  await startTestServer(host, 'http', { port })
  await writeService(lab, `web-${lan}`, addressOf(lan), [{ node: host.name, host, port }])
}

function startProxy(kind: Kind, lan: string): Promise<unknown>[] {
  if (kind !== 'only-proxy') return []
  const rules = { credentials: 'site:secret', allowedPorts: [443] }
  return [startTestServer(lab.router(lan), 'connect-proxy', { port: proxyPort, ...rules })]
}

/** Both ports of the servers are named everywhere; a proxy is where there is one. */
function configOf(kind: Kind, lan: string): DeepPartial<AgentConfig> {
  const servers = ['relay', 'relay-2'].flatMap((node) => [20004, 443].map((at) => `${lab.node(node).address}:${at}`))
  const gateway = lab.node(edgeOf(lan)).address.replace(/\d+$/, '1')
  const proxy = kind === 'only-proxy' ? { proxy: `http://site:secret@${gateway}:${proxyPort}` } : {}
  // Neighbours would ask each other all the time whether a route leads there; here it is about the tunnel.
  return { modules: { edgeTunnel: { servers, ...proxy }, edgeProxy: { reachability: 'tunnel' } } }
}

async function peerOf(node: string, peer: string): Promise<PeerStatus> {
  const found = (await quickStatusOf(lab.node(node))).tunnel?.peers.find(({ name }) => name === peer)
  assert.ok(found !== undefined, `${node} does not know ${peer}`)
  return found
}

for (const lan of shared) {
  test(`neighbours in a LAN (${lan}) are connected in it before there is traffic`, async (t) => {
    const startedAt = performance.now()
    const edge = lab.node(edgeOf(lan))
    await eventually(30_000, async () => {
      const { path } = await peerOf(`neighbour-${lan}`, edge.name)
      assert.ok(path.kind === 'lan' && path.address.includes(edge.address), JSON.stringify(path))
    })
    t.diagnostic(`same LAN: lan, seen after ${(performance.now() - startedAt).toFixed(0)} ms`)
  })
}

test('each pair of networks finds the best path that can be', { timeout: 200_000 }, async (t) => {
  const found = await Promise.all(
    pairs.map(async ({ from, to, left, right }) => {
      const expected = expectedPath(left, right)
      const { path, ms, firstMs, reason } = await settle(from, to, expected)
      t.diagnostic(
        `${from} - ${to}: ${path} ${ms.toFixed(0)} ms after its first answer, which took ${firstMs.toFixed(0)} ms${reason}`,
      )
      const isFitting = expected === 'either' && ['punched', 'relayed'].includes(path)
      return `${from} - ${to}: ${isFitting ? 'either' : path}`
    }),
  )
  assert.deepEqual(
    found,
    pairs.map(({ from, to, left, right }) => `${from} - ${to}: ${expectedPath(left, right)}`),
  )
})

test('no flow began on a stream, whatever lies in between', async () => {
  const counts = await Promise.all(lans.map(async ({ lan }) => `${lan}: ${await streamFlowsOf(lab.node(edgeOf(lan)))}`))
  assert.deepEqual(
    counts,
    lans.map(({ lan }) => `${lan}: 0`),
  )
})

test('idle nodes send signs of life to their servers alone, whatever kept them from a direct path', async (t) => {
  await delay(restMs)
  const before = await Promise.all(agents.map(({ pid }) => trafficOf(pid)))
  await delay(watchMs)
  const after = await Promise.all(agents.map(({ pid }) => trafficOf(pid)))
  const rows = after.map(({ received, sent }, at) => {
    return { name: agents[at]?.name ?? '', bytes: received + sent - total(before[at]) }
  })
  const text = rows.map(({ name, bytes }) => `${/^[^:]*/.exec(name)} ${bytes}`).join(', ')
  t.diagnostic(`bytes in ${watchMs / 1000} s: ${text}`)
  assert.ok(Math.max(...rows.map(({ bytes }) => bytes)) <= idleBytes, text)
})

function total(traffic: Traffic | undefined): number {
  return (traffic?.received ?? 0) + (traffic?.sent ?? 0)
}

/** Sends traffic until the path is better than relayed, or cannot be expected to become so. */
async function settle(from: string, to: string, expected: PathKind | 'either') {
  const host = lab.node(edgeOf(from))
  const get = async () => assert.equal(await bodyFrom(host, `http://${addressOf(to)}/`), edgeOf(to))
  const firstMs = await eventually(30_000, get)
  const startedAt = performance.now()
  for (;;) {
    const { path, lastError } = await peerOf(host.name, edgeOf(to))
    const ms = performance.now() - startedAt
    if (path.kind !== 'relayed' || ms > (expected === 'relayed' || expected === 'either' ? 15_000 : 45_000)) {
      await get()
      return { path: path.kind, ms, firstMs, reason: lastError === undefined ? '' : ` (${lastError})` }
    }
    await delay(250)
  }
}
