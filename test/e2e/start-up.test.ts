/**
 * How fast a mesh starts, what an agent weighs, and what a person is told when it cannot start. With the real
 * executable.
 *
 *              wan
 *     ┌─────────┴──┬───────────────┐
 *   relay       router-a        router-b      NATs
 *   server         │               │
 *               edge-a1         edge-b1       agents; pods web-NODE and client-NODE
 */
import assert from 'node:assert/strict'
import { readFile, writeFile } from 'node:fs/promises'
import process from 'node:process'
import { after, before, describe, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import type { AgentConfig } from '../../src/config/index.ts'
import type { DeepPartial } from '../lab/edgemesh.ts'
import { edgemeshBinary, type Host, type Lab, type LabProcess, publicPathOf } from '../lab/index.ts'
import { configFileOf, createSite, edgemesh, eventually, get, kernelStateOf, statusOf } from './support/site.ts'

const nodes = ['edge-a1', 'edge-b1'] as const
const createPair = (): Promise<Lab> =>
  createSite(
    {
      cloud: ['relay'],
      lans: {
        a: { nodes: { 'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'] } } },
        b: { nat: 'randomising', nodes: { 'edge-b1': { pods: ['web-edge-b1', 'client-edge-b1'] } } },
      },
    },
    nodes,
  )

describe('a mesh that starts for the first time', () => {
  test('carries the first request across LANs within three seconds, in the median of five', async (t) => {
    const totals: number[] = []
    for (let run = 1; run <= 5; run++) {
      await using lab = await createPair()
      await lab.startServer('relay')
      const startedAt = performance.now()
      const agents = await Promise.all(nodes.map((node) => lab.startAgent(node)))
      const readyMs = performance.now() - startedAt
      const client = lab.pod('client-edge-a1')
      await eventually(15_000, async () => assert.equal(await get(client, 'web-edge-b1', '/', 2_000), 'web-edge-b1'))
      totals.push(performance.now() - startedAt)
      t.diagnostic(
        `run ${run}: agents ready after ${readyMs.toFixed(0)} ms, answer after ${totals.at(-1)?.toFixed(0)} ms`,
      )
      if (run < 5) continue
      await delay(3_000)
      for (const [at, { pid }] of agents.entries()) t.diagnostic(`idle agent of ${nodes[at]}: ${await memoryOf(pid)}`)
    }
    const median = totals.toSorted((left, right) => left - right)[2] ?? Number.NaN
    t.diagnostic(`median ${median.toFixed(0)} ms`)
    assert.ok(median <= 3_000, `${median} ms`)
  })
})

async function memoryOf(pid: number): Promise<string> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  const megabytes = (field: string) => {
    const kilobytes = Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
    assert.ok(kilobytes > 0, `${field} of process ${pid}`)
    return `${((kilobytes * 1024) / 1e6).toFixed(1)} MB`
  }
  return `Rss ${megabytes('VmRSS')}, RssAnon ${megabytes('RssAnon')}, RssFile ${megabytes('RssFile')}`
}

describe('an agent that cannot start says why', () => {
  let lab: Lab
  let node: Host
  let server: LabProcess
  let pristine: readonly string[]
  before(async () => {
    lab = await createPair()
    node = lab.node('edge-a1')
    server = await lab.startServer('relay')
    pristine = await kernelStateOf(node)
  })
  after(() => lab?.[Symbol.asyncDispose]())

  /** Starts the agent of edge-a1 as the lab does, but waits for its end; what it wrote last is why. */
  async function failureOf(config: DeepPartial<AgentConfig> = {}): Promise<{ code: number | null; reason: string }> {
    await using agent = await lab.startAgent('edge-a1', config, { readyTimeoutMs: 0 })
    const end = await Promise.race([agent.exited, delay(10_000)])
    assert.notEqual(end, undefined, `it runs: ${agent.output()}`)
    return { code: agent.exit?.code ?? null, reason: agent.output().split('\n').at(-1) ?? '' }
  }

  /** Does it again with the configuration file of the last start, and another environment. */
  async function failureIn(...prefix: readonly string[]): Promise<{ code: number; reason: string }> {
    const binary = await publicPathOf(edgemeshBinary())
    const { code, stderr } = await node.exec([...prefix, binary, 'agent', '--config', configFileOf(node)])
    return { code, reason: stderr.trimEnd().split('\n').at(-1) ?? '' }
  }

  test('with another pre-shared key it stays outside and works inside, and both sides name the key', async () => {
    const path = `${node.dir}/psk-of-others`
    await writeFile(path, 'the key of another mesh', { mode: 0o600 })
    const config = { modules: { edgeTunnel: { psk: { path } }, edgeProxy: { onStop: 'remove' } } } as const
    await using agent = await lab.startAgent('edge-a1', config)
    const remedy = /"remedy":"compare \\"sha256sum\\" of the pre-shared key file on both nodes"/
    assert.match(await agent.waitForLine(/"level":"warn".*"server handshake failed: pre-shared key mismatch/), remedy)
    assert.match(await server.waitForLine(/"level":"warn".*"inbound handshake failed: pre-shared key mismatch/), remedy)
    assert.equal(await get(lab.pod('client-edge-a1'), 'web-edge-a1'), 'web-edge-a1')
    const { tunnel, waitingFor } = await statusOf(node)
    assert.deepEqual([tunnel?.servers[0]?.connected, tunnel?.peers, waitingFor], [false, [], []])
  })

  test('a typing error in its configuration', async () => {
    const config = { modules: { edgeProxy: { enabel: true } } } as DeepPartial<AgentConfig>
    const { code, reason } = await failureOf(config)
    assert.equal(code, 78, reason)
    assert.match(reason, /edgemesh-agent\.yaml:\d+:\d+: modules\.edgeProxy\.enabel: unknown key; did you mean "enable"/)
  })

  test('a pre-shared key that everybody can read', async () => {
    const path = `${node.dir}/psk-for-all`
    await writeFile(path, 'the key of the lab', { mode: 0o644 })
    const { code, reason } = await failureOf({ modules: { edgeTunnel: { psk: { path } } } })
    assert.equal(code, 78, reason)
    assert.match(reason, /modules\.edgeTunnel\.psk\.path: \S+ can be read by every user; run chmod 600 /)
  })

  test('no root', async () => {
    const home = `${node.dir}/of-nobody`
    const psk = `${home}/psk`
    await node.exec(['sh', '-c', `mkdir ${home}; printf key > ${psk}; chmod 600 ${psk}; chown -R 65534 ${home}`])
    await node.exec(['sh', '-c', `chmod a+x ${lab.dir} ${lab.dir}/hosts ${node.dir}; chmod -R a+rX ${lab.manifests}`])
    const modules = { edgeTunnel: { psk: { path: psk } } }
    await (await lab.startAgent('edge-a1', { modules, stateDir: `${home}/state`, runtimeDir: `${home}/run` })).stop()
    await edgemesh(node, 'cleanup')
    await node.exec(['chown', '-R', '65534', home])
    const { code, reason } = await failureIn('setpriv', '--reuid=65534', '--regid=65534', '--clear-groups')
    assert.equal(code, 77, reason)
    assert.match(reason, /^edgemesh: Cannot .*: permission denied; run edgemesh as root, or with the capability /)
  })

  test('no nft', async () => {
    const { code, reason } = await failureIn('env', 'PATH=/nonexistent')
    assert.equal(code, 71, reason)
    assert.match(reason, /^edgemesh: Cannot run nft: .*not installed; install it: apt-get install nftables/)
    assert.deepEqual(await kernelStateOf(node), pristine)
  })

  test('the bridge address on a device of somebody else', async () => {
    await node.exec(['ip', 'link', 'add', 'other0', 'type', 'bridge'])
    await node.exec(['ip', 'addr', 'add', '169.254.96.16/24', 'dev', 'other0'])
    const { code, reason } = await failureOf()
    await node.exec(['ip', 'link', 'del', 'other0'])
    assert.equal(code, 69, reason)
    assert.match(
      reason,
      /^edgemesh: Cannot put 169\.254\.96\.16 on edgemesh0: device other0 holds that address; remove/,
    )
    assert.deepEqual(await kernelStateOf(node), pristine)
  })

  test('another process on the port of the tunnel', async () => {
    const script = `require('net').createServer().listen(20006, '0.0.0.0', () => console.log('listening'))`
    await using other = node.spawn([process.execPath, '-e', script])
    await other.waitForLine(/^listening/)
    const { code, reason } = await failureOf()
    assert.equal(code, 69, reason)
    assert.match(reason, /^edgemesh: Cannot listen on TCP port 20006 for the tunnel: .*address is already in use/)
    assert.deepEqual(await kernelStateOf(node), pristine)
  })

  test('another DNS server on all addresses', async () => {
    const script = `require('dgram').createSocket('udp4').bind(53, '0.0.0.0', () => console.log('listening'))`
    await using other = node.spawn([process.execPath, '-e', script])
    await other.waitForLine(/^listening/)
    const { code, reason } = await failureOf()
    assert.equal(code, 69, reason)
    assert.match(reason, /^edgemesh: Cannot serve DNS on 169\.254\.96\.16 port 53: .*already in use.*dnsmasq/)
    assert.deepEqual(await kernelStateOf(node), pristine)
  })
})
