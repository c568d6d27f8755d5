/**
 * Endpoints on other nodes without the tunnel, where these nodes prove that they are who is reached.
 *
 *                              wan
 *      ┌────────────────────────┼────────────────┐
 *    relay                   router-a         router-b        both LANs are 192.168.1.0/24
 *    server       ┌─────────────┼──────┐          │
 *              edge-a1       edge-a2  edge-a3   edge-b1
 *           10.244.1.0/24   10.244.2.0/24 in all three        pods web-* have the same address
 *                 │             │       │         │
 *             client-a1      web-a2   web-a3   web-b1
 *
 * A CNI plugin (here: two routes) makes pods of edge-a1 and edge-a2 reach each other.
 */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import { eventually, statusOf } from './support/site.ts'

const subnet = '192.168.1.0/24'
const podBridge = '10.244.2.0/24'
const podSlot = '10.244.2.2 . 8080'
const services = {
  'web-a2': '10.96.7.1',
  'web-a3': '10.96.7.2',
  'web-b1': '10.96.7.3',
  'node-a2': '10.96.7.4',
  spread: '10.96.7.5',
} as const
type ServiceName = keyof typeof services
const pods = ['web-a2', 'web-a3', 'web-b1'] as const

let lab: Lab
let client: Host
let agent: LabProcess
const servers = new Map<string, LabProcess>()
before(async () => {
  lab = await createLab({
    cloud: ['relay'],
    lans: {
      a: {
        subnet,
        nodes: {
          'edge-a1': { podBridge: '10.244.1.0/24', pods: ['client-a1'] },
          'edge-a2': { podBridge, pods: ['web-a2'] },
          'edge-a3': { podBridge, pods: ['web-a3'] },
        },
      },
      b: { subnet, nat: 'randomising', nodes: { 'edge-b1': { podBridge, pods: ['web-b1'] } } },
    },
  })
  client = lab.pod('client-a1')
  for (const pod of pods) {
    servers.set(pod, await startTestServer(lab.pod(pod), 'http', { port: 8080, name: pod }))
    await writeService(pod, lab.pod(pod).address, pod.replace('web', 'edge'), 8080)
  }
  await startTestServer(lab.node('edge-a2'), 'http', { port: 8090, name: 'node-a2' })
  await writeService('node-a2', lab.node('edge-a2').address, 'edge-a2', 8090)
  await lab.startServer('relay')
  const nodes = ['edge-a2', 'edge-a3', 'edge-b1'].map((node) => lab.startAgent(node))
  agent = await lab.startAgent('edge-a1')
  await Promise.all(nodes)
})
after(() => lab?.[Symbol.asyncDispose]())

async function writeService(name: ServiceName, address: string, nodeName: string, targetPort: number): Promise<void> {
  const ports = [{ name: 'http', port: 80, targetPort }]
  const service = serviceManifest({ name, clusterIP: services[name], ports })
  const slice = endpointSliceManifest({ serviceName: name, ports, endpoints: [{ address, nodeName }] })
  await lab.writeManifest(`${name}.yaml`, `${service}---\n${slice}`)
}

async function bodyOf(host: Host, service: ServiceName, patienceSeconds = 5): Promise<string> {
  const { stdout } = await host.exec([
    'curl',
    '-sS',
    '--max-time',
    String(patienceSeconds),
    `http://${services[service]}/`,
  ])
  return stdout.trim()
}

async function reachOf(other: string) {
  const { proxy } = await statusOf(lab.node('edge-a1'))
  return proxy?.reachability.nodes.find(({ node }) => node === other) ?? assert.fail(`nothing is told of ${other}`)
}

/** Where the kernel of a node sends connections to a Service. */
async function slotOf(service: ServiceName, node = 'edge-a1'): Promise<string> {
  const { stdout } = await lab.node(node).exec(['nft', 'list', 'map', 'ip', 'edgemesh', 'slot-0'])
  return new RegExp(`${services[service].replaceAll('.', '\\.')} \\. 80 : ([\\d.]+ \\. \\d+)`).exec(stdout)?.[1] ?? ''
}

/** Every Service answers, and none in the name of another. */
async function assertAllAnswer(): Promise<void> {
  for (const service of pods) assert.equal(await bodyOf(client, service), service)
}

async function route(node: string, verb: 'replace' | 'del', network: string, via: string): Promise<void> {
  const { code, stderr } = await lab.node(node).exec(['ip', 'route', verb, network, 'via', via])
  assert.equal(code, 0, stderr)
}

suite('before anybody routes pods', () => {
  test('all are reached through the tunnel, and status says why', async () => {
    await eventually(30_000, assertAllAnswer)
    for (const node of ['edge-a3', 'edge-b1']) {
      const { direct, tunnelled, reason } = await reachOf(node)
      assert.deepEqual([direct, tunnelled], [0, 1])
      assert.match(reason ?? '', /^no route leads to 10\.244\.2\.2 but the default one$/)
    }
    for (const service of pods) assert.match(await slotOf(service), /^169\.254\./)
  })

  test('an endpoint at the address of a neighbour itself is reached directly', async () => {
    await eventually(20_000, async () => assert.equal(await slotOf('node-a2'), '192.168.1.12 . 8090'))
    assert.equal(await bodyOf(client, 'node-a2'), 'node-a2')
  })
})

suite('with routes between the pods of edge-a1 and edge-a2', () => {
  before(async () => {
    await route('edge-a1', 'replace', podBridge, lab.node('edge-a2').address)
    await route('edge-a2', 'replace', '10.244.1.0/24', lab.node('edge-a1').address)
  })

  test('the kernel sends to the node that has proven itself', async () => {
    await eventually(20_000, async () => assert.equal(await slotOf('web-a2'), podSlot))
    assert.equal(await bodyOf(client, 'web-a2'), 'web-a2')
    assert.equal(await bodyOf(lab.node('edge-a1'), 'web-a2'), 'web-a2')
    assert.deepEqual(await reachOf('edge-a2'), { node: 'edge-a2', direct: 2, tunnelled: 0 })
  })

  test('pods with the same address, of a neighbour and of another LAN, are never mixed up with it', async () => {
    for (let round = 0; round < 10; round++) await assertAllAnswer()
    for (const service of ['web-a3', 'web-b1'] as const) assert.match(await slotOf(service), /^169\.254\./)
    // The neighbour is asked sooner or later, and the wrong node does not answer for it.
    await eventually(10_000, async () => {
      assert.match((await reachOf('edge-a3')).reason ?? '', /^it does not answer at 10\.244\.2\.2: /)
    })
    assert.match((await reachOf('edge-b1')).reason ?? '', /no direct path/)
  })

  test('when the route changes to another node it is that node which is reached directly', async () => {
    await route('edge-a1', 'replace', podBridge, lab.node('edge-a3').address)
    await route('edge-a3', 'replace', '10.244.1.0/24', lab.node('edge-a1').address)
    await eventually(10_000, async () => assert.match(await slotOf('web-a2'), /^169\.254\./))
    await eventually(20_000, async () => assert.equal(await slotOf('web-a3'), podSlot))
    await assertAllAnswer()
  })

  test('without a way for the answers to pods nothing is reached directly', async () => {
    await route('edge-a3', 'del', '10.244.1.0/24', lab.node('edge-a1').address)
    await lab.node('edge-a1').exec(['nft', 'delete', 'table', 'ip', 'lab_cni'])
    await eventually(10_000, async () => assert.match(await slotOf('web-a3'), /^169\.254\./))
    assert.match((await reachOf('edge-a3')).reason ?? '', /^it does not answer at 10\.244\.2\.2 from 10\.244\.1\.1: /)
    await assertAllAnswer()
  })
})

suite('a neighbour that nothing is sent to', () => {
  const direct = '192.168.1.12 . 8090'
  const silence = [
    'add table ip lab_silence',
    'add chain ip lab_silence in { type filter hook prerouting priority -300; }',
    'add rule ip lab_silence in ip saddr 192.168.1.13 udp dport 20006 counter',
  ]

  const dropQuestions = 'add rule ip lab_silence in ip saddr 192.168.1.13 udp dport 20006 drop'

  /** How many questions of edge-a3 have come to edge-a2. */
  async function questions(): Promise<number> {
    const { stdout } = await lab.node('edge-a2').exec(['nft', 'list', 'table', 'ip', 'lab_silence'])
    return Number(/counter packets (\d+)/.exec(stdout)?.[1])
  }

  async function changeFirewall(...sentences: readonly string[]): Promise<void> {
    const { code, stderr } = await lab.node('edge-a2').exec(['nft', sentences.join(';')])
    assert.equal(code, 0, stderr)
  }

  before(async () => {
    await eventually(20_000, async () => assert.equal(await slotOf('node-a2', 'edge-a3'), direct))
    await changeFirewall(...silence)
  })

  test('is hardly asked any more, and still reached directly', async () => {
    await eventually(90_000, async () => {
      const asked = await questions()
      await delay(5_000)
      assert.equal(await questions(), asked)
    })
    assert.equal(await slotOf('node-a2', 'edge-a3'), direct)
  })

  test('and has become silent since costs its first connection some seconds, which then takes the tunnel', async () => {
    // The tunnel's TCP comes through.
    await changeFirewall('add rule ip lab_silence in ip saddr 192.168.1.13 tcp dport 8090 drop', dropQuestions)
    assert.equal(await bodyOf(lab.node('edge-a3'), 'node-a2', 15), 'node-a2')
    assert.match(await slotOf('node-a2', 'edge-a3'), /^169\.254\./)
  })

  test('is reached directly again once it answers', async () => {
    await changeFirewall('delete table ip lab_silence')
    await eventually(20_000, async () => assert.equal(await slotOf('node-a2', 'edge-a3'), direct))
  })
})

suite('edgeProxy.reachability', () => {
  test('direct takes all addresses for routable, tunnel none', async () => {
    for (const [reachability, expected] of [
      ['direct', /^10\.244\.2\.2 \. 8080$/],
      ['tunnel', /^169\.254\./],
    ] as const) {
      await agent.stop()
      agent = await lab.startAgent('edge-a1', { modules: { edgeProxy: { reachability } } })
      await eventually(10_000, async () => {
        for (const service of pods) assert.match(await slotOf(service), expected)
      })
    }
    await eventually(20_000, assertAllAnswer)
    assert.equal((await reachOf('edge-a2')).reason, 'edgeProxy.reachability is tunnel')
  })
})

suite('edgeProxy.loadBalancer.locality', () => {
  const ports = [{ name: 'http', port: 80, targetPort: 8080 }]
  const answers = async () => new Set(await Promise.all(Array.from({ length: 10 }, () => bodyOf(client, 'spread'))))

  before(async () => {
    const endpoints = ['a2', 'b1'].map((at) => ({ address: lab.pod(`web-${at}`).address, nodeName: `edge-${at}` }))
    const service = serviceManifest({ name: 'spread', clusterIP: services.spread, ports })
    const slice = endpointSliceManifest({ serviceName: 'spread', ports, endpoints })
    await lab.writeManifest('spread.yaml', `${service}---\n${slice}`)
  })

  test('without it all endpoints are used; with nearest those of the LAN, and the others once these are dead', async () => {
    await eventually(20_000, async () => assert.deepEqual([...(await answers())].sort(), ['web-a2', 'web-b1']))
    await agent.stop()
    agent = await lab.startAgent('edge-a1', { modules: { edgeProxy: { loadBalancer: { locality: 'nearest' } } } })
    await eventually(20_000, async () => assert.deepEqual([...(await answers())], ['web-a2']))
    await servers.get('web-a2')?.stop('SIGKILL')
    await eventually(20_000, async () => assert.deepEqual([...(await answers())], ['web-b1']))
  })
})
