/**
 * A StatefulSet across LANs: each pod is reached by its own name from every node, although pods of different nodes may
 * have the same address and no CNI connects them.
 *
 *      wan ── relay (server)
 *       │
 *   ┌───┴─────────────┐
 * router-a (NAT)    router-b (NAT)
 *   │                 │
 * edge-a1           edge-b1
 *   │ 10.244.7.0/24    │ 10.244.7.0/24
 *  db-0, client       db-1
 */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import { eventually } from './support/site.ts'

const podBridge = '10.244.7.0/24'
const namespace = 'shop'
const ports = [
  { name: 'http', port: 8080 },
  { name: 'more', port: 8081 },
]

suite('a headless Service with a pod in each LAN', () => {
  let lab: Lab
  let client: Host
  let near: LabProcess
  const podOf = (name: string) => lab.pod(name)

  before(async () => {
    lab = await createLab({
      cloud: ['relay'],
      lans: {
        a: { nodes: { 'edge-a1': { podBridge, pods: ['db-0', 'client'] } } },
        b: { nodes: { 'edge-b1': { podBridge, pods: ['db-1'] } } },
      },
    })
    client = lab.pod('client')
    for (const [pod, node] of [
      ['db-0', 'edge-a1'],
      ['db-1', 'edge-b1'],
    ] as const) {
      for (const { port } of ports) await startTestServer(podOf(pod), 'http', { port, name: `${pod}:${port}` })
      const slice = { namespace, serviceName: 'db', name: `db-${node}`, ports }
      const endpoints = [{ address: podOf(pod).address, nodeName: node, podName: pod, hostname: pod }]
      await lab.writeManifest(`${pod}.yaml`, endpointSliceManifest({ ...slice, endpoints }))
    }
    await lab.writeManifest('db.yaml', serviceManifest({ namespace, name: 'db', clusterIP: 'None', ports }))
    await lab.startServer('relay')
    near = await lab.startAgent('edge-a1')
    await lab.startAgent('edge-b1')
  })
  after(() => lab?.[Symbol.asyncDispose]())

  const addressOf = async (host: Host, name: string): Promise<string> => {
    const query = ['dig', '+short', '+tries=1', '+time=2', '@169.254.96.16', `${name}.db.shop.svc.cluster.local`, 'A']
    return (await host.exec(query)).stdout.trim()
  }
  const answerTo = async (host: Host, name: string, port: number): Promise<string> => {
    const url = `http://${await addressOf(host, name)}:${port}/`
    return (await host.exec(['curl', '-sS', '--max-time', '5', url])).stdout.trim()
  }

  test('both pods have the same address', () => assert.equal(podOf('db-0').address, podOf('db-1').address))

  test('each is reached by its own name, at each of its ports, from a pod and from a node', async () => {
    for (const host of [client, lab.node('edge-a1'), lab.node('edge-b1')]) {
      for (const pod of ['db-0', 'db-1']) {
        for (const { port } of ports) {
          await eventually(30_000, async () => assert.equal(await answerTo(host, pod, port), `${pod}:${port}`))
        }
      }
    }
  })

  test('the pod here is named by its own address, the one elsewhere by an address of this node', async () => {
    assert.equal(await addressOf(client, 'db-0'), podOf('db-0').address)
    assert.match(await addressOf(client, 'db-1'), /^169\.254\.(8[89]|9[0-5])\./)
  })

  test('the address stays the same when the agent starts again', async () => {
    const before = await addressOf(client, 'db-1')
    await near.stop()
    near = await lab.startAgent('edge-a1')
    assert.equal(await addressOf(client, 'db-1'), before)
    await eventually(30_000, async () => assert.equal(await answerTo(client, 'db-1', 8080), 'db-1:8080'))
  })
})
