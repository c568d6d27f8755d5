/**
 * Shares of endpoints over thousands of flows, as rules of the kernel give them out, each way to make rules by itself.
 *
 *     client ── cni0 of edge-a1 ── web (ten endpoints: UDP ports 7001 to 7010)
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { createLab, type Host, type Lab, type LabProcess } from '../lab/index.ts'
import type { ProxyScene, SceneService } from './service-proxy-process.ts'
import { argumentsFor, type RulesWay, rulesWays } from './support/rules-way.ts'

const scene = resolve(import.meta.dirname, 'service-proxy-process.ts')
const support = (name: string) => join(import.meta.dirname, 'support', name)
const endpoints = Array.from({ length: 10 }, (_, index) => 7_001 + index)
const clusterIPs = { random: '10.96.0.10', 'round-robin': '10.96.0.11', affinity: '10.96.0.12' }
const port = 53_000
/** Of chi-square with nine degrees of freedom: a fair choice is above it once in a thousand times. */
const bound = 27.88

for (const way of rulesWays) suite(`rules of ${way.name}`, () => describeShares(way))

function describeShares(way: RulesWay): void {
  let lab: Lab
  let client: Host
  let running: LabProcess
  const sources = Array.from({ length: 20 }, (_, index) => `10.244.0.${100 + index}`)

  before(async () => {
    lab = await createLab({
      lans: { a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client'], bridgeNf: true } } } },
    })
    const [node, web] = [lab.node('edge-a1'), lab.pod('web')]
    client = lab.pod('client')
    await web
      .spawn([process.execPath, support('spread-server.ts'), String(endpoints[0]), String(endpoints.length)])
      .waitForLine(/^listening/, 30_000)
    for (const source of sources) {
      const { code, stderr } = await client.exec(['ip', 'address', 'add', `${source}/24`, 'dev', 'eth0'])
      assert.equal(code, 0, stderr)
    }
    const backends = endpoints.map((endpoint) => ({ node: 'edge-a1', address: web.address, port: endpoint }))
    const services = Object.entries(clusterIPs).map(([name, clusterIP]): SceneService => {
      const fields = name === 'affinity' ? { clientIPAffinitySeconds: 600 } : {}
      return { name, protocol: 'udp', clusterIP, port, backends, fields }
    })
    const rules: ProxyScene['rules'] = (['random', 'round-robin'] as const).map((kind) => {
      return { host: kind, trafficPolicy: { loadBalancer: { kind } } }
    })
    const file = join(node.dir, 'scene.json')
    await writeFile(file, JSON.stringify({ nodeName: 'edge-a1', services, rules } satisfies ProxyScene))
    running = node.spawn(argumentsFor(way, node, [process.execPath, scene, file]))
    await running.waitForLine(/^ready/, 60_000)
  })
  after(() => lab?.[Symbol.asyncDispose]())

  /** How often each endpoint answered, for each source. */
  async function shares(clusterIP: string, flows: number, from: readonly string[] = []): Promise<number[][]> {
    const argv = [process.execPath, support('spread-client.ts'), clusterIP, String(port), String(flows), ...from]
    const { code, stdout, stderr } = await client.exec(argv, { timeoutMs: 120_000 })
    assert.equal(code, 0, stderr)
    const counted: Record<string, number>[] = JSON.parse(stdout)
    return counted.map((counts) => endpoints.map((endpoint) => counts[endpoint] ?? 0))
  }

  test('10,000 random picks are fair by the chi-square test at p > 0.001', async () => {
    const chiSquareFrom = async (sourceAddress: string) => {
      const [counts = []] = await shares(clusterIPs.random, 10_000, [sourceAddress])
      return counts.reduce((sum, count) => sum + (count - 1_000) ** 2 / 1_000, 0)
    }
    const first = await chiSquareFrom(sources[0] ?? '')
    // Fair choices are above the bound twice in a row once in a million runs.
    const again = first > bound ? await chiSquareFrom(sources[1] ?? '') : first
    assert.ok(again <= bound, `chi-square ${first}, then ${again}`)
  })

  test('1,003 picks in turns differ by one at most', async () => {
    const [counts = []] = await shares(clusterIPs['round-robin'], 1_003)
    assert.equal(
      counts.reduce((sum, count) => sum + count, 0),
      1_003,
    )
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join(' '))
  })

  test('with affinity all flows of a client go to one endpoint, and clients to several', async () => {
    const perClient = await shares(clusterIPs.affinity, 50, sources)
    for (const counts of perClient) assert.deepEqual(counts.toSorted((one, other) => other - one).slice(0, 2), [50, 0])
    const used = new Set(perClient.map((counts) => counts.indexOf(50)))
    // Twenty clients at one of ten endpoints each: three or fewer endpoints once in a hundred million runs.
    assert.ok(used.size > 3, `all at ${[...used].join(', ')}`)
  })
}
