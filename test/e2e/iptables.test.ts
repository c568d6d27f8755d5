/**
 * The site on devices without nftables, with the real executable: the paths of paths.test.ts, what status says, a kernel
 * without some modules, a change of kind, and what is left after `edgemesh cleanup`.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server  nft      ┌────────┴────────┐              │
 *                 edge-a1           edge-a2        edge-b1
 *              iptables-nft    legacy, no modules   legacy, nft without a kernel
 */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { edgemeshBinary, type Host, type Lab, type LabProcess, startTestServer } from '../lab/index.ts'
import { registerPathTests } from './support/path-tests.ts'
import { argumentsFor, nftables, type RulesWay, rulesWays, withBrokenNft, withoutModules } from './support/rules-way.ts'
import {
  configFileOf,
  createSite,
  edgemesh,
  eventually,
  get,
  nodes,
  paths,
  statusOf,
  writeService,
} from './support/site.ts'

const wayOf = (name: RulesWay['name']): RulesWay => rulesWays.find((way) => way.name === name) ?? assert.fail(name)
const ways: Readonly<Record<(typeof nodes)[number], RulesWay>> = {
  'cloud-1': nftables,
  'edge-a1': wayOf('iptables-nft'),
  'edge-a2': wayOf('iptables-legacy'),
  'edge-b1': wayOf('iptables-legacy'),
}

let lab: Lab
let agents: ReadonlyMap<string, LabProcess>
const start = (name: keyof typeof ways, way = ways[name]) =>
  lab.startAgent(name, {}, { through: argumentsFor(way, lab.node(name), []) })

before(async () => {
  lab = await createSite()
  const node = lab.node('edge-a2')
  await startTestServer(node, 'http', { port: 8080 })
  const pair = [
    { node: 'edge-a2', host: lab.pod('web-edge-a2') },
    { node: 'edge-a2', host: node },
  ] as const
  await writeService(lab, 'pair', '10.96.5.1', pair)
  withoutModules(ways['edge-a2'], node, ['-m statistic', '-m recent', '--notrack'])
  withBrokenNft(ways['edge-b1'], lab.node('edge-b1'))
  await lab.startServer('relay')
  agents = new Map(await Promise.all(nodes.map(async (name) => [name, await start(name)] as const)))
  await eventually(30_000, async () => {
    for (const { from, to } of paths) await get(lab.node(from), `web-${to}`, '/', 5_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

registerPathTests(() => lab)

/** All rules of a node that are ours. */
async function ourRules(host: Host): Promise<string[]> {
  const commands = ['nft list ruleset', 'iptables-legacy-save', 'iptables-nft-save']
  const { stdout } = await host.exec(['sh', '-c', commands.map((command) => `${command} 2>/dev/null`).join('; ')])
  return stdout.split('\n').filter((line) => /edgemesh/i.test(line))
}

suite('status', () => {
  test('says what makes the rules of a node, and why', async () => {
    const rulesOf = async (name: string) => (await statusOf(lab.node(name))).proxy?.rules
    const [cloud, a1, a2, b1] = await Promise.all(['cloud-1', 'edge-a1', 'edge-a2', 'edge-b1'].map(rulesOf))
    assert.deepEqual([cloud?.kind, cloud?.limits], ['nftables', []])
    assert.match(a1?.version ?? '', /nf_tables/)
    assert.match(b1?.version ?? '', /legacy/)
    for (const rules of [a1, a2]) assert.match(rules?.reason ?? '', /nft: the command is not installed/)
    assert.match(b1?.reason ?? '', /Cannot apply the ruleset: .*Protocol not supported/)
    assert.deepEqual(
      a2?.limits.map((limit) => /"(\w+)" is missing/.exec(limit)?.[1]).filter((name) => name !== undefined),
      ['statistic', 'recent', 'CT'],
    )
  })

  test('has a line of it for people', async () => {
    const { stdout } = await edgemesh(lab.node('edge-b1'), 'status', '--config', configFileOf(lab.node('edge-b1')))
    assert.match(stdout, /^rules {5}iptables v\S+ \(legacy\): Cannot apply the ruleset: /m)
  })
})

test('a kernel that cannot spread connections leaves that to the userspace proxy', async () => {
  const [client, node] = [lab.pod('client-edge-a2'), lab.node('edge-a2')]
  const answers = new Set<string>()
  for (let request = 0; request < 6; request++) answers.add(await get(client, 'pair'))
  assert.deepEqual([...answers].sort(), ['edge-a2', 'web-edge-a2'])
  const { stdout } = await node.exec(['iptables-legacy', '-t', 'nat', '-S', 'EDGEMESH-CLUSTER'])
  assert.match(stdout, /-d 10\.96\.5\.1\/32 .* -j DNAT --to-destination 169\.254\./)
})

test('a node that is given nftables uses it, without a trace of iptables, and the other way round', async () => {
  const node = lab.node('edge-a1')
  await agents.get('edge-a1')?.stop()
  for (const [way, kept, gone] of [
    [nftables, /^table ip edgemesh/, /EDGEMESH-/],
    [ways['edge-a1'], /EDGEMESH-/, /^table ip edgemesh/],
  ] as const) {
    // Both are installed now: nft has to remove what it made.
    const config = way === nftables ? {} : { modules: { edgeProxy: { kernel: 'iptables' as const } } }
    const agent = await lab.startAgent('edge-a1', config)
    await eventually(5_000, async () => {
      const rules = await ourRules(node)
      assert.ok(rules.some((line) => kept.test(line)))
      assert.deepEqual(
        rules.filter((line) => gone.test(line)),
        [],
      )
    })
    await eventually(10_000, async () => assert.equal(await get(node, 'web-edge-b1'), 'web-edge-b1'))
    await agent.stop()
  }
})

test('cleanup leaves nothing, with and without nft, and does it twice', async () => {
  for (const name of ['edge-a1', 'edge-b1'] as const) {
    const node = lab.node(name)
    const command = name === 'edge-a1' ? 'iptables-nft' : 'iptables-legacy'
    if (name === 'edge-b1') await agents.get(name)?.stop()
    await node.exec([command, '-t', 'nat', '-N', 'OTHERS'])
    assert.notDeepEqual(await ourRules(node), [])
    for (let time = 0; time < 2; time++) {
      const { code, stdout, stderr } = await node.exec([
        ...argumentsFor(ways[name], node, [edgemeshBinary()]),
        'cleanup',
      ])
      assert.equal(code, 0, stderr)
      assert.match(stdout, /chains EDGEMESH-\* of iptables/)
      assert.deepEqual(await ourRules(node), [])
    }
    assert.match((await node.exec([command, '-t', 'nat', '-S'])).stdout, /-N OTHERS/)
    assert.doesNotMatch((await node.exec(['ip', 'link'])).stdout, /edgemesh0/)
  }
})
