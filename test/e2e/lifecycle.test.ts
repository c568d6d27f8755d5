/**
 * Starting, stopping, killing and starting again, with the real executable.
 *
 *                         wan
 *     ┌─────────┬──────────┴────────┬──────────────────────┐
 *   relay    cloud-1             router-a               router-b       NATs
 *   server   agent                  │                      │
 *            no firewall         edge-a1                edge-b1        agents
 *                                nft drops              iptables drops forwarded and incoming traffic
 *
 * Each node has the pods web-NODE (servers behind the Service of that name) and client-NODE. The agent of edge-a1 is
 * the one that most tests stop; edge-b1 and cloud-1 hold the endpoints elsewhere.
 */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, describe, type TestContext, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentConfig } from '../../src/config/index.ts'
import type { DeepPartial } from '../lab/edgemesh.ts'
import { type Host, type Lab, type LabProcess, sha256OfTestBytes } from '../lab/index.ts'
import {
  assertRefusedAtOnce,
  bodyFrom,
  configFileOf,
  createSite,
  edgemesh,
  eventually,
  fetchFrom,
  get,
  kernelStateOf,
  ports,
  statusOf,
  writeService,
} from './support/site.ts'
import { startSteadyFlow } from './support/steady-flow.ts'

const agentNodes = ['edge-a1', 'edge-b1', 'cloud-1'] as const
const local = 'http://10.96.0.1/'
const remote = 'http://10.96.0.2/'
const mixed = 'http://10.96.1.1/'

let lab: Lab
let edge: Host
let client: Host
let farAgent: LabProcess | undefined
before(async () => {
  const drop = { forwardPolicy: 'drop', inputPolicy: 'drop' } as const
  const pods = (node: string) => [`web-${node}`, `client-${node}`]
  const spec = {
    cloud: { 'cloud-1': { pods: pods('cloud-1') }, relay: {} },
    lans: {
      a: { nodes: { 'edge-a1': { pods: pods('edge-a1'), ...drop, firewallTool: 'nft' } } },
      b: { nodes: { 'edge-b1': { pods: pods('edge-b1'), ...drop, firewallTool: 'iptables' } } },
    },
  } as const
  lab = await createSite(spec, agentNodes)
  edge = lab.node('edge-a1')
  client = lab.pod('client-edge-a1')
  await writeService(lab, 'mixed', '10.96.1.1', [
    { node: 'edge-a1', host: lab.pod('web-edge-a1') },
    { node: 'edge-b1', host: lab.pod('web-edge-b1') },
  ])
  await lab.startServer('relay')
})
after(() => lab?.[Symbol.asyncDispose]())

/** Starts the agent of edge-a1 and waits until endpoints here and elsewhere answer; that time is told. */
async function startEdge(
  t: TestContext,
  proxy: DeepPartial<AgentConfig['modules']['edgeProxy']> = {},
): Promise<LabProcess> {
  await startFarAgent()
  const startedAt = performance.now()
  const agent = await lab.startAgent('edge-a1', { modules: { edgeProxy: proxy } })
  try {
    await eventually(10_000, async () => {
      assert.equal(await bodyFrom(client, local), 'web-edge-a1')
      assert.equal(await bodyFrom(client, remote), 'web-edge-b1')
    })
  } catch (error) {
    t.diagnostic(agent.output())
    await agent.stop()
    throw error
  }
  t.diagnostic(`endpoints here and elsewhere answer ${(performance.now() - startedAt).toFixed(0)} ms after the start`)
  return agent
}

/** The agent of edge-b1, started anew if a test has ended it. */
async function startFarAgent(): Promise<LabProcess> {
  if (farAgent === undefined || farAgent.exit !== undefined) farAgent = await lab.startAgent('edge-b1')
  return farAgent
}

const exitedCleanly = { code: 0, signal: null }

describe('onStop: remove', () => {
  test('SIGTERM leaves every kind of node as it was before the start', async (t) => {
    const hosts = agentNodes.map((node) => lab.node(node))
    const pristine = await Promise.all(hosts.map(kernelStateOf))
    const config = { modules: { edgeProxy: { onStop: 'remove' } } } as const
    const agents = await Promise.all(agentNodes.map((node) => lab.startAgent(node, config)))
    t.after(() => Promise.all(agents.map((agent) => agent.stop())))
    await eventually(10_000, async () => {
      for (const node of agentNodes) assert.equal(await get(lab.pod(`client-${node}`), 'web-edge-b1'), 'web-edge-b1')
    })
    for (const [at, host] of hosts.entries()) {
      const running = (await kernelStateOf(host)).join('\n')
      for (const trace of [/^table ip edgemesh/m, /^edgemesh0 .*169\.254\.96\.16/m, /^local 169\.254\.64\.0\/19/m]) {
        assert.match(running, trace, host.name)
      }
      const hasFirewall = host !== lab.node('cloud-1')
      assert.equal(/comment "edgemesh"|--comment edgemesh/.test(running), hasFirewall, `accepts on ${host.name}`)
      assert.doesNotMatch(String(pristine[at]), /edgemesh/)
    }
    assert.deepEqual(
      await Promise.all(agents.map((agent) => agent.stop())),
      agents.map(() => exitedCleanly),
    )
    for (const [at, host] of hosts.entries()) {
      assert.deepEqual(await kernelStateOf(host), pristine[at])
      assert.equal(existsSync(`${host.dir}/agent/run/control.sock`), false)
    }
  })
})

test('a second agent on the node is refused and the first goes on', async (t) => {
  await using first = await startEdge(t)
  const second = await edgemesh(edge, 'agent', '--config', configFileOf(edge))
  assert.equal(second.code, 69, second.stderr)
  assert.match(
    second.stderr,
    /^edgemesh: Cannot start: another instance is running, it holds the lock "edgemesh-agent"; stop it first; .*$/m,
  )
  assert.equal(first.exit, undefined)
  assert.equal(await bodyFrom(client, local), 'web-edge-a1')
  assert.equal(await bodyFrom(client, remote), 'web-edge-b1')
})

test('onStop: keep: direct connections live on through a stop and a restart', async (t) => {
  const first = await startEdge(t)
  await using flow = await startSteadyFlow(client, '10.96.0.1', ports.echo)
  assert.deepEqual(await first.stop(), exitedCleanly)
  await flow.carries()
  assert.equal(await bodyFrom(client, local), 'web-edge-a1', 'a new connection to an endpoint here')
  assert.equal(await bodyFrom(edge, local), 'web-edge-a1', 'a new connection of a process of the node')
  await using second = await startEdge(t)
  await flow.carries()
  // The rules of a starting agent are those of its first snapshot; later ones must not break connections either.
  await writeService(lab, 'later', '10.96.1.2', [{ node: 'edge-a1', host: lab.pod('web-edge-a1') }])
  await eventually(5_000, async () => assert.equal(await bodyFrom(client, 'http://10.96.1.2/'), 'web-edge-a1'))
  await flow.carries()
  assert.equal(second.exit, undefined)
})

test('onStop: keep: what only the agent can reach is refused while it is stopped, not left to time out', async (t) => {
  await (await startEdge(t)).stop()
  for (const host of [client, edge]) {
    await assertRefusedAtOnce(host, remote)
    // Half of these would have gone to the agent.
    for (let request = 0; request < 8; request++) assert.equal(await bodyFrom(host, mixed), 'web-edge-a1')
  }
  await using _again = await startEdge(t)
  const answers = new Set<string>()
  await eventually(5_000, async () => {
    answers.add(await bodyFrom(client, mixed))
    assert.equal(answers.size, 2)
  })
})

describe('SIGKILL', () => {
  test('the next agent is the same peer and serves at once, and endpoints here answer all along', async (t) => {
    const first = await startEdge(t)
    const identity = (await statusOf(edge)).tunnel?.peerId
    assert.match(identity ?? '', /^12D3KooW/)
    await using flow = await startSteadyFlow(client, '10.96.0.1', ports.echo)
    assert.equal((await first.stop('SIGKILL')).signal, 'SIGKILL')
    assert.equal(await bodyFrom(client, local), 'web-edge-a1')
    await flow.carries()
    await using _second = await startEdge(t)
    assert.equal((await statusOf(edge)).tunnel?.peerId, identity)
    await flow.carries()
  })

  test('cleanup removes what a killed agent left, and can be repeated', async (t) => {
    await edgemesh(edge, 'cleanup')
    const pristine = await kernelStateOf(edge)
    assert.doesNotMatch(pristine.join('\n'), /edgemesh/)
    await (await startEdge(t)).stop('SIGKILL')
    assert.match((await kernelStateOf(edge)).join('\n'), /edgemesh/)
    for (let time = 0; time < 2; time++) {
      const { code, stdout, stderr } = await edgemesh(edge, 'cleanup')
      assert.equal(code, 0, stderr)
      assert.match(stdout, /^removed: nftables table edgemesh, .*, device edgemesh0/)
      assert.deepEqual(await kernelStateOf(edge), pristine)
    }
  })
})

describe('SIGTERM drains', () => {
  // More than all buffers on the way hold, at a pace that takes two seconds.
  const size = 24 * 1024 * 1024
  const download = (host: Host, bytes = size) =>
    fetchFrom(host, `${remote}bytes?n=${bytes}`, '--limit-rate', '12M', '--output', 'download')

  test('a transfer in flight ends whole when it is shorter than drainTimeoutMs', async (t) => {
    await using agent = await startEdge(t, { drainTimeoutMs: 8_000 })
    const transfer = download(client)
    await delay(500)
    const stoppedAt = performance.now()
    const stopping = agent.stop('SIGTERM', 15_000)
    await eventually(1_000, () => assertRefusedAtOnce(client, remote))
    const { code, stderr } = await transfer
    const tookMs = performance.now() - stoppedAt
    assert.equal(code, 0, stderr)
    assert.equal(await sha256Of(client, 'download'), sha256OfTestBytes(size))
    assert.deepEqual(await stopping, exitedCleanly)
    t.diagnostic(
      `the transfer went on for ${tookMs.toFixed(0)} ms; the agent ended ${(performance.now() - stoppedAt - tookMs).toFixed(0)} ms later`,
    )
  })

  test('a transfer that is longer is reset, not ended as if it were whole', async (t) => {
    await using agent = await startEdge(t, { drainTimeoutMs: 300 })
    // Far more than the kernel's buffers and a busy machine's delays can hold when the time is up.
    const transfer = download(client, 5 * size)
    await delay(500)
    const stoppedAt = performance.now()
    assert.deepEqual(await agent.stop('SIGTERM', 10_000), exitedCleanly)
    t.diagnostic(`the agent ended ${(performance.now() - stoppedAt).toFixed(0)} ms after SIGTERM`)
    const { code, stderr } = await transfer
    assert.equal(code, 56, stderr)
    assert.match(stderr, /reset by peer/)
  })

  test('the agent at the far end lets it finish, too', async (t) => {
    await using _agent = await startEdge(t)
    const transfer = download(client)
    await delay(500)
    assert.deepEqual(await (await startFarAgent()).stop('SIGTERM', 15_000), exitedCleanly)
    const { code, stderr } = await transfer
    assert.equal(code, 0, stderr)
    assert.equal(await sha256Of(client, 'download'), sha256OfTestBytes(size))
  })
})

async function sha256Of(host: Host, file: string): Promise<string> {
  const { stdout } = await host.exec(['sha256sum', file])
  return stdout.split(' ')[0] ?? ''
}
