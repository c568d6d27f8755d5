/**
 * Interception on nodes that are set up in difficult ways, with the real executable.
 *
 *                                       wan
 *     ┌────────┬─────────────────────────┴──────────────┬──────────────────┐
 *   relay   cloud-1                                  router-a          router-b, router-c
 *   server  agent                                       │                  each 192.168.7.0/24,
 *                                                 192.168.1.0/24           pods 172.17.0.0/16
 *     ┌──────┬─────────┬────────────┬────────────┬──────┴──────┐           │
 *    hub   bridged  switched  iptables-drop   nft-drop     lan-only     twin-b, twin-c
 *   server   agents: bridge-nf on, off; firewalls that drop; no default route and a server in the LAN only
 *
 * Each node with an agent has the pods web-NODE (servers behind the Service of that name) and client-NODE. All have
 * strict reverse path filters.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Host, Lab, NodeSpec } from '../lab/index.ts'
import {
  bodyFrom,
  createSite,
  eventually,
  fetchFrom,
  get,
  ports,
  resolve,
  statusOf,
  writeService,
} from './support/site.ts'

const dropAll = { forwardPolicy: 'drop', inputPolicy: 'drop' } as const
const specs: Readonly<Record<string, NodeSpec>> = {
  bridged: { bridgeNf: true },
  switched: { bridgeNf: false },
  'iptables-drop': { ...dropAll, firewallTool: 'iptables', bridgeNf: true },
  'nft-drop': { ...dropAll, firewallTool: 'nft', bridgeNf: false },
  'lan-only': { defaultRoute: false, rpFilter: 1 },
}
const twinSpec: NodeSpec = { podBridge: '172.17.0.0/16' }
const agentNodes = [...Object.keys(specs), 'twin-b', 'twin-c', 'cloud-1']

let lab: Lab
before(async () => {
  const withPods = (name: string, spec: NodeSpec = {}) => ({
    [name]: { rpFilter: 1 as const, ...spec, pods: [`web-${name}`, `client-${name}`] },
  })
  const lanNodes = Object.assign({}, ...Object.entries(specs).map(([name, spec]) => withPods(name, spec)))
  lab = await createSite(
    {
      cloud: { ...withPods('cloud-1'), relay: {} },
      lans: {
        a: { nodes: { hub: {}, ...lanNodes } },
        b: { subnet: '192.168.7.0/24', nodes: withPods('twin-b', twinSpec) },
        c: { subnet: '192.168.7.0/24', nodes: withPods('twin-c', twinSpec), nat: 'randomising' },
      },
    },
    agentNodes,
  )
  await lab.startServer('relay')
  await lab.startServer('hub')
  const relay = `${lab.node('relay').address}:20004`
  const hub = `${lab.node('hub').address}:20004`
  await Promise.all(
    agentNodes.map((node) => {
      const servers = node === 'lan-only' ? [hub] : node === 'bridged' ? [relay, hub] : [relay]
      return lab.startAgent(node, { modules: { edgeTunnel: { servers } } })
    }),
  )
  await eventually(15_000, async () => {
    for (const node of agentNodes) await get(lab.node(node), `web-${remoteOf(node)}`, '/', 2_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

/** The node whose endpoint stands for every endpoint elsewhere. */
const remoteOf = (node: string): string => (node === 'lan-only' || node === 'cloud-1' ? 'bridged' : 'cloud-1')

/** Who asks on a node. */
const clientsOf = (node: string): readonly Host[] => [lab.node(node), lab.pod(`client-${node}`)]

for (const node of agentNodes.filter((name) => name !== 'cloud-1')) {
  describe(`the node ${node}`, () => {
    test('reaches an endpoint on itself, from a host process and from a pod', async () => {
      for (const client of clientsOf(node)) assert.equal(await get(client, `web-${node}`), `web-${node}`)
    })

    test('reaches an endpoint on another node, from a host process and from a pod', async () => {
      const remote = `web-${remoteOf(node)}`
      for (const client of clientsOf(node)) assert.equal(await get(client, remote), remote)
    })

    test('has an endpoint that others reach', async () => {
      const from = lab.pod(`client-${remoteOf(node)}`)
      assert.equal(await get(from, `web-${node}`), `web-${node}`)
    })

    test('has a pod that reaches itself through its Service', async () => {
      // As CNI plugins do for pods on a bridge.
      await lab.node(node).exec(['ip', 'link', 'set', 'veth0', 'type', 'bridge_slave', 'hairpin', 'on'])
      assert.equal(await get(lab.pod(`web-${node}`), `web-${node}`), `web-${node}`)
    })

    test('has a userspace proxy that answers nobody who was not sent there by a Service', async () => {
      const port = (await statusOf(lab.node(node))).proxy?.listenPorts[0]
      const neighbour = node.startsWith('twin') ? lab.router(node.slice(-1)) : lab.node('hub')
      const attempts = [
        [neighbour, lab.node(node).address],
        [lab.node(node), '127.0.0.1'],
        [lab.pod(`client-${node}`), '169.254.64.1'],
      ] as const
      await Promise.all(
        attempts.map(async ([from, address]) => {
          const { code, stderr } = await fetchFrom(from, `http://${address}:${port}/`, '--max-time', '0.5')
          assert.equal(code, 28, `${from.name} gets an answer from ${address}:${port}: ${stderr}`)
        }),
      )
    })
  })
}

test('a neighbour that routes cluster addresses through a node gets no answer from it', async () => {
  const [neighbour, gateway] = [lab.node('hub'), lab.node('bridged')]
  const clusterIP = await resolve(gateway, 'web-bridged')
  const query = ['dig', '+tries=1', '+time=1', '@169.254.96.16', 'web-bridged.default.svc.cluster.local']
  assert.equal((await gateway.exec(query)).code, 0)
  for (const address of [clusterIP, '169.254.96.16']) {
    await neighbour.exec(['ip', 'route', 'add', `${address}/32`, 'via', gateway.address])
  }
  const [web, udp, tcp] = await Promise.all([
    fetchFrom(neighbour, `http://${clusterIP}/`, '--max-time', '1'),
    neighbour.exec(query),
    neighbour.exec([...query, '+tcp']),
  ])
  assert.deepEqual([web.stdout, udp.code, tcp.code], ['', 9, 9])
})

describe('two LANs with the same networks, and pods with the same address', () => {
  test('the pod of the right node answers', async () => {
    assert.equal(lab.node('twin-b').address, lab.node('twin-c').address)
    assert.equal(lab.pod('web-twin-b').address, lab.pod('web-twin-c').address)
    for (const from of ['twin-b', 'twin-c', 'cloud-1', 'bridged']) {
      for (const client of clientsOf(from)) {
        for (const to of ['web-twin-b', 'web-twin-c']) assert.equal(await get(client, to), to)
      }
    }
  })

  test('they do not take each other for LAN neighbours', async () => {
    const path = (await statusOf(lab.node('twin-b'))).tunnel?.peers.find(({ name }) => name === 'twin-c')?.path
    assert.equal(path?.kind, 'relayed', JSON.stringify(path))
  })

  test('a Service with both pods uses both', async () => {
    const endpoints = ['twin-b', 'twin-c'].map((node) => ({ node, host: lab.pod(`web-${node}`) }))
    await writeService(lab, 'twins', '10.96.3.1', endpoints)
    for (const from of ['twin-b', 'cloud-1']) {
      const seen = new Set<string>()
      await eventually(10_000, async () => {
        seen.add(await bodyFrom(lab.pod(`client-${from}`), 'http://10.96.3.1/', '--max-time', '1'))
        assert.deepEqual([...seen].sort(), ['web-twin-b', 'web-twin-c'])
      })
    }
  })
})

test('clients keep their own address towards an endpoint on their node', async () => {
  const url = async (from: Host) => `http://${await resolve(from, 'web-bridged')}:${ports.http}/client`
  const pod = lab.pod('client-bridged')
  assert.equal((await bodyFrom(pod, await url(pod))).split(':')[0], pod.address)
})
