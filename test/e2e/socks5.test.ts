/**
 * Nodes by name through SOCKS5, across LANs with the same network.
 *
 *                wan
 *     ┌───────────┼────────────┐
 *   relay      router-a     router-b
 *   server        │            │
 *              edge-a1      edge-b1         both 192.168.1.11: only names tell them apart
 *                 │
 *           client-edge-a1 (pod)
 *
 * Each node serves HTTP on 8022, which its agent allows, and on 8023, which it does not.
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createLab, type ExecResult, type Host, type Lab, startTestServer } from '../lab/index.ts'
import { eventually, statusOf } from './support/site.ts'

const nodes = ['edge-a1', 'edge-b1'] as const
const allowNodePorts = [8022, 8025, 8026]

let lab: Lab
before(async () => {
  const subnet = '192.168.1.0/24'
  lab = await createLab({
    cloud: ['relay'],
    lans: {
      a: { subnet, nodes: { 'edge-a1': { pods: ['client-edge-a1'] } } },
      b: { subnet, nat: 'randomising', nodes: ['edge-b1'] },
    },
  })
  for (const node of nodes) {
    for (const port of [8022, 8023]) await startTestServer(lab.node(node), 'http', { port })
  }
  await lab.startServer('relay')
  const config = {
    modules: { edgeProxy: { socks5Proxy: { enable: true } }, edgeTunnel: { allowNodePorts } },
  }
  await lab.startAgent('edge-b1', config)
  // SOCKS5 needs no DNS.
  await lab.startAgent('edge-a1', { modules: { ...config.modules, edgeDNS: { enable: false } } })
  await eventually(20_000, async () => {
    const { tunnel } = await statusOf(lab.node('edge-a1'))
    assert.ok(tunnel?.peers.some(({ name }) => name === 'edge-b1'))
  })
})
after(() => lab?.[Symbol.asyncDispose]())

const proxy = '169.254.96.16:10800'

function curl(host: Host, url: string, flag = '--socks5-hostname'): Promise<ExecResult> {
  return host.exec(['curl', '-sS', '--max-time', '15', flag, proxy, url], { timeoutMs: 20_000 })
}

/** What curl says of a refused connection: the reply code of the proxy. */
async function replyTo(host: Host, url: string): Promise<string | undefined> {
  const { code, stderr } = await curl(host, url)
  assert.equal(code, 97, stderr)
  return /\((\d+)\)\s*$/.exec(stderr.trim())?.[1]
}

for (const client of ['edge-a1', 'client-edge-a1']) {
  const hostOf = () => (client === 'edge-a1' ? lab.node('edge-a1') : lab.pod('client-edge-a1'))

  test(`${client} reaches an allowed port of a node in another LAN by its name`, async () => {
    const { code, stdout, stderr } = await curl(hostOf(), 'http://edge-b1:8022/')
    assert.deepEqual([code, stdout.trim()], [0, 'edge-b1'], stderr)
  })

  test(`${client} reaches an allowed port of its own node by its name`, async () => {
    const { code, stdout, stderr } = await curl(hostOf(), 'http://edge-a1:8022/')
    assert.deepEqual([code, stdout.trim()], [0, 'edge-a1'], stderr)
  })
}

test('other ports are refused, here and there, and the client is told why it failed', async () => {
  const pod = lab.pod('client-edge-a1')
  assert.equal(await replyTo(pod, 'http://edge-b1:8023/'), '2')
  assert.equal(await replyTo(pod, 'http://edge-a1:8023/'), '2')
  // Allowed, but nobody listens.
  assert.equal(await replyTo(pod, 'http://edge-b1:8026/'), '5')
  assert.equal(await replyTo(pod, 'http://edge-a1:8026/'), '5')
  assert.equal(await replyTo(pod, 'http://edge-x:8022/'), '3')
  assert.equal(await replyTo(pod, 'http://192.168.1.11:8022/'), '2')
})

test('a service that listens on loopback only stays there, whatever is allowed', async () => {
  const edge = lab.node('edge-b1')
  const script = "require('node:http').createServer((_, r) => r.end('private')).listen(8025, '127.0.0.1')"
  edge.spawn([process.execPath, '-e', script])
  await eventually(10_000, async () => {
    const { stdout } = await edge.exec(['curl', '-s', 'http://127.0.0.1:8025/'])
    assert.equal(stdout, 'private')
  })
  assert.equal(await replyTo(lab.pod('client-edge-a1'), 'http://edge-b1:8025/'), '5')
})

test('the entry is for this node and its pods, not for neighbours that route its address', async () => {
  const neighbour = lab.router('a')
  await neighbour.exec(['ip', 'route', 'add', '169.254.96.16/32', 'via', lab.node('edge-a1').address])
  const { code } = await neighbour.exec([
    'curl',
    '-s',
    '--max-time',
    '2',
    '--socks5-hostname',
    proxy,
    'http://edge-b1:8022/',
  ])
  assert.equal(code, 28)
})

test('forty clients at once each get the node that they asked for', async () => {
  const pod = lab.pod('client-edge-a1')
  const results = await Promise.all(
    Array.from({ length: 40 }, async (_, index) => {
      const node = nodes[index % 2]
      const { code, stdout, stderr } = await curl(pod, `http://${node}:8022/`)
      return [code, stdout.trim() === node, stderr]
    }),
  )
  assert.deepEqual(results, Array(40).fill([0, true, '']))
})
