/**
 * What changes under running agents: addresses, routes, NAT mappings, cables, and whether the agent runs at all. The paths
 * heal without a restart: new flows work within seconds, old ones go on or are reset, and who could be met directly is again.
 *
 *                      wan
 *     ┌────────────────┴┬────────────────────┐
 *   relay            router-a             router-b        NATs that keep ports
 *   server      ┌───────┴─────┐              │
 *            edge-a1       edge-a2        edge-b1         agents; pods web-NODE and client-NODE
 */
import assert from 'node:assert/strict'
import process from 'node:process'
import { after, before, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { Lab, LabProcess, LabSpec } from '../lab/index.ts'
import { createSite, eventually, get, type Mesh, ports, quickStatusOf, resolve, startMesh } from './support/site.ts'
import { type SteadyFlow, startSteadyFlow } from './support/steady-flow.ts'

const spec: LabSpec = {
  cloud: ['relay'],
  lans: {
    a: {
      nodes: {
        'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'] },
        'edge-a2': { pods: ['web-edge-a2', 'client-edge-a2'] },
      },
    },
    b: { nodes: { 'edge-b1': { pods: ['web-edge-b1', 'client-edge-b1'] } } },
  },
}
const nodes = ['edge-a1', 'edge-a2', 'edge-b1'] as const
type Node = (typeof nodes)[number]

/** What can be had on a machine with nothing else to do is told; what is asserted leaves room for a busy one. */
const newFlowMs = 15_000
const directMs = 60_000
/** A lost link is found within 12 s, and a flow waits up to `resumeSeconds` for another one. */
const oldFlowMs = 60_000

/** Env EDGEMESH_TEST_DEAD_SECONDS=60 has the line away for longer than flows wait for another link. */
const deadSeconds = Number(process.env['EDGEMESH_TEST_DEAD_SECONDS'] ?? '20')

let lab: Lab
let mesh: Mesh
let address: string
before(async () => {
  lab = await createSite(spec, nodes)
  mesh = await startMesh(lab, nodes)
  await untilWhole()
  address = await resolve(lab.node('edge-a1'), 'web-edge-b1')
})
after(() => lab?.[Symbol.asyncDispose]())

const agent = (node: Node): LabProcess => mesh.agent(node)

async function pathOf(from: Node, to: Node): Promise<string> {
  const peer = (await quickStatusOf(lab.node(from))).tunnel?.peers.find(({ name }) => name === to)
  return peer?.path.kind ?? 'unknown'
}

/** Sends traffic until all paths are the best ones; returns how long that took. */
async function untilWhole(): Promise<number> {
  const expected = [
    ['edge-a1', 'edge-a2', 'lan'],
    ['edge-a2', 'edge-a1', 'lan'],
    ['edge-a1', 'edge-b1', 'punched'],
    ['edge-b1', 'edge-a1', 'punched'],
  ] satisfies [Node, Node, string][]
  return await eventually(directMs, async () => {
    for (const [from, to, kind] of expected) {
      await get(lab.node(from), `web-${to}`, '/', 3_000)
      assert.equal(await pathOf(from, to), kind, `${from} to ${to}`)
    }
  })
}

/** The first answer over a connection made from now on. */
async function newFlow(from: Node, to: Node): Promise<number> {
  return await eventually(newFlowMs, async () =>
    assert.equal(await get(lab.node(from), `web-${to}`, '/', 8_000), `web-${to}`),
  )
}

async function openFlow(): Promise<SteadyFlow> {
  // In a pod: a process of the node would lose its own address.
  return await startSteadyFlow(lab.pod('client-edge-a1'), address, ports.echo)
}

/** A flow from before the change: goes on, or its client is told that it is over. */
async function fateOf(flow: SteadyFlow): Promise<'goes on' | 'reset'> {
  const until = performance.now() + oldFlowMs
  for (;;) {
    const outcome = await Promise.any([
      flow.carries(2_000).then(() => 'goes on' as const),
      flow.ended(1_000).then(() => 'reset' as const),
    ]).catch(() => undefined)
    if (outcome !== undefined) return outcome
    assert.ok(performance.now() < until, `a flow neither goes on nor ends within ${oldFlowMs} ms`)
  }
}

/** Everything that has to hold after a change; the figures are told. */
async function assertHeals(t: TestContext, flow: SteadyFlow): Promise<void> {
  const startedAt = performance.now()
  const [there, back, neighbour] = await Promise.all([
    newFlow('edge-a1', 'edge-b1'),
    newFlow('edge-b1', 'edge-a1'),
    newFlow('edge-a1', 'edge-a2'),
  ])
  const fate = await fateOf(flow)
  const decided = performance.now() - startedAt
  await untilWhole()
  const whole = performance.now() - startedAt
  const flows = [there, back, neighbour].map((ms) => ms.toFixed(0)).join(', ')
  t.diagnostic(
    `new flows after ${flows} ms; the old one ${fate}, known after ${decided.toFixed(0)} ms; direct again after ${whole.toFixed(0)} ms`,
  )
  assert.ok(whole <= directMs, `direct again only after ${whole} ms`)
  for (const node of nodes) assert.equal(agent(node).exit, undefined, `${node} has ended`)
}

test('another address', async (t) => {
  await using flow = await openFlow()
  const { code, stderr } = await lab
    .node('edge-a1')
    .exec([
      'sh',
      '-ec',
      'ip addr del 192.168.1.11/24 dev eth0; ip addr add 192.168.1.31/24 dev eth0; ip route replace default via 192.168.1.1',
    ])
  assert.equal(code, 0, stderr)
  await assertHeals(t, flow)
})

test('mappings that a NAT forgets without a word', async (t) => {
  await using flow = await openFlow()
  const set = async (timeoutSeconds: number, isLoose: 0 | 1) => {
    const dir = '/proc/sys/net/netfilter'
    const commands = `echo ${timeoutSeconds} > ${dir}/nf_conntrack_tcp_timeout_established; echo ${isLoose} > ${dir}/nf_conntrack_tcp_loose`
    const { code, stderr } = await lab.router('b').exec(['sh', '-ec', commands])
    assert.equal(code, 0, stderr)
  }
  flow.freeze()
  await set(1, 0)
  // Signs of life come every few seconds: whatever is idle for longer than one is forgotten.
  await delay(8_000)
  await set(432_000, 0)
  flow.thaw()
  await assertHeals(t, flow)
})

test('an agent that sleeps', async (t) => {
  await using flow = await openFlow()
  agent('edge-a1').kill('SIGSTOP')
  await delay(14_000)
  agent('edge-a1').kill('SIGCONT')
  await assertHeals(t, flow)
})

test('a cable that comes and goes', async (t) => {
  await using flow = await openFlow()
  for (let round = 0; round < 5; round++) {
    await lab.cutWan('b')
    await delay(700)
    await lab.restoreWan('b')
    await delay(700)
  }
  await assertHeals(t, flow)
})

test(`${deadSeconds} s without a line`, async (t) => {
  await using flow = await openFlow()
  await lab.cutWan('b')
  await delay(deadSeconds * 1_000)
  await lab.restoreWan('b')
  await assertHeals(t, flow)
})

test('a server that starts anew', async (t) => {
  await using flow = await openFlow()
  await mesh.server.stop()
  await lab.startServer('relay')
  await flow.carries()
  await assertHeals(t, flow)
})

// The last one, for what it leaves behind in the router.
test('another way out', async (t) => {
  await using flow = await openFlow()
  const rules =
    'add table ip way { chain post { type nat hook postrouting priority srcnat; ip saddr 192.168.1.31 ip daddr != 192.168.1.0/24 masquerade; }; }'
  const neighbour = await lab.node('edge-a2').exec(['nft', rules])
  assert.equal(neighbour.code, 0, neighbour.stderr)
  const { code, stderr } = await lab.node('edge-a1').exec(['ip', 'route', 'replace', 'default', 'via', '192.168.1.12'])
  assert.equal(code, 0, stderr)
  try {
    await assertHeals(t, flow)
  } finally {
    await lab.node('edge-a1').exec(['ip', 'route', 'replace', 'default', 'via', '192.168.1.1'])
    await lab.node('edge-a2').exec(['nft', 'delete table ip way'])
  }
  // The router may remember the hole through the neighbour for days, and give this node another port; a new one heals that.
  const wholeMs = await untilWhole()
  t.diagnostic(`${await pathOf('edge-a1', 'edge-b1')} ${wholeMs.toFixed(0)} ms after the first way was taken again`)
})
