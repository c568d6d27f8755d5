/**
 * What carries a connection dies or falls silent while bytes flow, and connections do not wait for its return: they
 * are reset at both ends, with a reason in the log, and new ones work soon after it is back. Those that wait: resume.test.ts.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server              ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * The client is always the pod client-edge-a1.
 */
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import type { Host, Lab } from '../lab/index.ts'
import { type Cell, type Scenario, type ScriptedServices, startScriptedServices } from './support/scripted-services.ts'
import { createMeshLab, eventually, type Mesh, siteSpec, startMesh } from './support/site.ts'

const agentNodes = ['edge-a1', 'edge-a2', 'edge-b1'] as const
const resetWithinMs = 15_000
/** The goal is 5 s; an attempt of the test that began in the silence takes 2 s of that, and a repeated packet of the kernel as much. */
const backWithinMs = 10_000

const MiB = 1024 * 1024
const endless = 1024 * 1024 * MiB
const any = [0, endless] as const

/** Under way until something breaks. */
const flows: readonly Scenario[] = [
  {
    name: 'download',
    client: [{ receive: 4 * MiB }, { say: 'downloading' }, 'receive the end'],
    server: [{ send: endless }],
    atClient: { bytes: any, end: 'ECONNRESET' },
    atServer: { bytes: 0, end: 'ECONNRESET' },
  },
  {
    name: 'upload',
    client: [{ send: 4 * MiB }, { receive: 100 }, { say: 'uploading' }, { send: endless }],
    server: [{ receive: 4 * MiB }, { send: 100 }, 'receive the end'],
    atClient: { bytes: 100, end: 'ECONNRESET' },
    atServer: { bytes: any, end: 'ECONNRESET' },
  },
  {
    name: 'silent',
    client: [{ send: 100 }, { receive: 100 }, { say: 'silent' }, 'receive the end'],
    server: [{ receive: 100 }, { send: 100 }, 'receive the end'],
    atClient: { bytes: 100, end: 'ECONNRESET' },
    atServer: { bytes: 100, end: 'ECONNRESET' },
  },
]

const request: Scenario = {
  name: 'request',
  client: [{ send: 100 }, { receive: 200 }, 'end', 'receive the end'],
  server: [{ receive: 100 }, { send: 200 }, 'end', 'receive the end'],
  atClient: { bytes: 200, end: 'in order' },
  atServer: { bytes: 100, end: 'in order' },
}

const impatient = { modules: { edgeTunnel: { resumeSeconds: 0 } } }

let lab: Lab
let mesh: Mesh
let services: ScriptedServices
let client: Host
before(async () => {
  lab = await createMeshLab(siteSpec)
  services = await startScriptedServices(lab, agentNodes)
  mesh = await startMesh(lab, agentNodes, impatient)
  client = lab.pod('client-edge-a1')
  await works('edge-a2', 15_000)
  await works('edge-b1', 15_000)
})
after(() => lab?.[Symbol.asyncDispose]())

let requests = 0

/** Waits until a new connection to a node works, and one from there; tells how long that took. */
async function works(node: string, timeoutMs: number): Promise<string> {
  const attempt = (from: Host, to: string) => () => {
    requests += 1
    return services.run([{ id: `request ${requests}`, client: from, service: `pod-${to}`, scenario: request }], 2_000)
  }
  const [there, back] = await Promise.all([
    eventually(timeoutMs, attempt(client, node)),
    eventually(timeoutMs, attempt(lab.pod(`client-${node}`), 'edge-a1')),
  ])
  assert.ok(Math.max(there, back) <= timeoutMs, `${node}: there ${there} ms, back ${back} ms`)
  return `new connections to ${node} work after ${there.toFixed(0)} ms, from there after ${back.toFixed(0)} ms`
}

/** A break under test. */
interface Break {
  readonly node: string
  /** What the reason in the log of edge-a1 says. */
  readonly reason: RegExp
  /** The backend is not asked what it saw: the kernel ends a killed agent's connections, some of them in order. */
  readonly isFarAgentKilled?: boolean
  readonly cut: () => Promise<unknown>
  readonly mend: () => Promise<unknown>
}

/** Breaks what carries the connections to a node and repairs it: each end must see a reset, the log must say why. */
async function breaks(t: TestContext, { node, reason, isFarAgentKilled = false, cut, mend }: Break): Promise<void> {
  const cells: Cell[] = flows.map((scenario) => {
    const { atServer: _, ...atClientOnly } = scenario
    const id = `${t.name}, ${node}, ${scenario.name}`
    return { id, client, service: `pod-${node}`, scenario: isFarAgentKilled ? atClientOnly : scenario }
  })
  await using running = await services.start(cells, 60_000)
  for (const text of ['downloading', 'uploading', 'silent']) await running.said(text)
  const log = () => mesh.agent('edge-a1').output().split('\n')
  const linesBefore = log().length
  try {
    await cut()
    const cutAt = performance.now()
    const reports = await running.reports(resetWithinMs)
    const clientMs = performance.now() - cutAt
    await services.verify(cells, reports, resetWithinMs - clientMs)
    const bothMs = performance.now() - cutAt
    t.diagnostic(
      `${node}: the client is reset after ${clientMs.toFixed(0)} ms, both ends after ${bothMs.toFixed(0)} ms`,
    )
    assert.ok(bothMs <= resetWithinMs)
    await eventually(1_000, async () => {
      const told = log().slice(linesBefore)
      const line = told.find((text) => text.includes('"connection reset"') && text.includes(`pod-${node}`)) ?? ''
      assert.match(line, reason, told.join('\n'))
    })
  } finally {
    await mend()
  }
  t.diagnostic(await works(node, backWithinMs))
}

test('the server is killed', async (t) => {
  await breaks(t, {
    node: 'edge-b1',
    reason: /"reason":"edge-b1: the (connection|link) to the peer was lost/,
    cut: () => mesh.server.stop('SIGKILL'),
    mend: () => lab.startServer('relay'),
  })
})

test('the agent of a LAN neighbour is killed', async (t) => {
  await breaks(t, {
    node: 'edge-a2',
    reason: /"reason":"edge-a2: the (connection|link) to the peer was lost/,
    isFarAgentKilled: true,
    cut: () => mesh.agent('edge-a2').stop('SIGKILL'),
    mend: () => lab.startAgent('edge-a2', impatient),
  })
})

test('the relay falls silent for this node', async (t) => {
  await breaks(t, {
    node: 'edge-b1',
    reason: /"reason":"edge-b1: the (connection|link) to the peer was lost/,
    cut: () => silenceRelay('a'),
    mend: () => endSilence('a'),
  })
})

test('the relay falls silent for the far node, and the cable of a neighbour is pulled', async (t) => {
  const reason = /: nothing was heard for (4|12) s/
  const cable = (state: 'up' | 'down') => lab.router('a').exec(['ip', 'link', 'set', 'port1', state])
  const outcomes = await Promise.allSettled([
    breaks(t, { node: 'edge-b1', reason, cut: () => silenceRelay('b'), mend: () => endSilence('b') }),
    breaks(t, { node: 'edge-a2', reason, cut: () => cable('down'), mend: () => cable('up') }),
  ])
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason
})

test('the agent across the LANs is killed', async (t) => {
  await breaks(t, {
    node: 'edge-b1',
    reason: /"reason":"edge-b1: the (connection|link) to the peer was lost/,
    isFarAgentKilled: true,
    cut: () => mesh.agent('edge-b1').stop('SIGKILL'),
    mend: () => lab.startAgent('edge-b1', impatient),
  })
})

test('a slow uplink that is full for longer than any silence may last is not taken for a dead one', async (t) => {
  const router = lab.router('a')
  const shape = async (...args: string[]) => {
    const { code, stderr } = await router.exec(['tc', 'qdisc', ...args])
    assert.equal(code, 0, stderr)
  }
  await shape('add', 'dev', 'wan0', 'root', 'tbf', 'rate', '1mbit', 'burst', '16kb', 'latency', '10s')
  const startedAt = performance.now()
  const scenario: Scenario = {
    name: 'upload',
    count: 3,
    client: [{ send: 768 * 1024 }, 'end', 'receive the end'],
    server: ['receive the end', { send: 100 }, 'end'],
    atClient: { bytes: 100, end: 'in order' },
    atServer: { bytes: 768 * 1024, end: 'in order' },
  }
  await services.run([{ id: t.name, client, service: 'pod-edge-b1', scenario }], 60_000)
  const tookMs = performance.now() - startedAt
  await shape('del', 'dev', 'wan0', 'root')
  t.diagnostic(`the uplink was full for ${tookMs.toFixed(0)} ms`)
  assert.ok(tookMs > 13_000, 'the uplink was not slow')
})

/** Drops what a LAN and the relay send each other, without a word to either. */
async function silenceRelay(lan: string): Promise<void> {
  const { address } = lab.node('relay')
  const rules = `table ip silence {
  chain forward {
    type filter hook forward priority filter - 1;
    ip saddr ${address} drop
    ip daddr ${address} drop
  }
}
`
  const { code, stderr } = await lab.router(lan).exec(['nft', '-f', '-'], { input: rules })
  assert.equal(code, 0, stderr)
}

async function endSilence(lan: string): Promise<void> {
  const { code, stderr } = await lab.router(lan).exec(['nft', 'delete table ip silence'])
  assert.equal(code, 0, stderr)
}
