/**
 * The pods of `edgemesh manifests`, with the volumes, capabilities and read-only root that they ask for:
 *
 *              wan
 *        ┌──────┴───────────┐
 *      relay             router-a        NAT
 *   pod edgemesh-server     │
 *                        edge-a1         pod edgemesh-agent; iptables drops what it does not know
 *                        pods web-edge-a1, client-edge-a1
 */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { renderManifest } from '../../src/commands/manifests/manifest.ts'
import { entriesOf } from '../../src/commands/manifests.ts'
import { type KubeObject, readObjects } from '../envtest/index.ts'
import type { Lab } from '../lab/index.ts'
import { type Pod, runPod } from './support/pod.ts'
import { createSite, eventually, get } from './support/site.ts'

let lab: Lab
let server: Pod
let agent: Pod
const manifestsFolder = '/etc/edgemesh/manifests'

before(async () => {
  const drop = { forwardPolicy: 'drop', inputPolicy: 'drop', firewallTool: 'iptables' } as const
  const lans = { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1', 'client-edge-a1'], ...drop } } } }
  lab = await createSite({ cloud: { relay: {} }, lans }, ['edge-a1'])
  const settings = {
    namespace: 'kubeedge',
    image: 'none',
    servers: [`${lab.node('relay').address}:20004`] as const,
    psk: Buffer.from('the key of the pods\n').toString('base64'),
  }
  const objects = readObjects(renderManifest(entriesOf('all', settings))).map(withManifestsFolder)
  const workload = (kind: string) => {
    const found = objects.find((object) => object.kind === kind)
    assert.ok(found)
    return found
  }
  server = await runPod(lab.node('relay'), workload('Deployment'), objects)
  agent = await runPod(lab.node('edge-a1'), workload('DaemonSet'), objects, {
    env: { NODE_NAME: 'edge-a1', NAMESPACE: 'kubeedge' },
    folders: { [manifestsFolder]: lab.manifests },
  })
  await server.process.waitForLine(/"msg":"server ready"/, 15_000)
  await agent.process.waitForLine(/"msg":"agent ready"/, 15_000)
})
after(async () => await lab?.[Symbol.asyncDispose]())

/** There is no API in this lab: objects come from a folder, everything else is as it is printed. */
function withManifestsFolder(object: KubeObject): KubeObject {
  const file = 'edgemesh-agent.yaml'
  const text = (object['data'] as Readonly<Record<string, string>> | undefined)?.[file]
  if (text === undefined) return object
  return { ...object, data: { [file]: stringify({ ...parse(text), kubeAPIConfig: { manifests: manifestsFolder } }) } }
}

suite('the pods of edgemesh manifests', () => {
  test('start with the capabilities that they ask for, and have no others', async () => {
    const capabilitiesOf = async (pod: Pod) => {
      const { stdout } = await pod.exec(['cat', `/proc/${pod.process.pid}/status`])
      return ['CapEff', 'CapBnd', 'NoNewPrivs'].map(
        (field) => new RegExp(`^${field}:\\s*(\\S+)`, 'm').exec(stdout)?.[1],
      )
    }
    // Bits 10, 12 and 13: NET_BIND_SERVICE, NET_ADMIN, NET_RAW.
    assert.deepEqual(await capabilitiesOf(agent), ['0000000000003400', '0000000000003400', '1'])
    assert.deepEqual(await capabilitiesOf(server), ['0000000000000000', '0000000000000000', '1'])
  })

  test('are ready by their own probes', async () => {
    await eventually(15_000, async () => {
      for (const pod of [server, agent]) {
        const { code, stdout, stderr } = await pod.exec(pod.readinessProbe)
        assert.equal(code, 0, stdout + stderr)
      }
    })
  })

  test('carry a connection from a pod, from DNS to the firewall of the node', async () => {
    assert.match(await get(lab.pod('client-edge-a1'), 'web-edge-a1'), /web-edge-a1/)
    assert.match(await get(lab.node('edge-a1'), 'web-edge-a1'), /web-edge-a1/)
  })

  test('find each other: the agent reaches the server with the key of the Secret', async () => {
    await eventually(15_000, async () => {
      const { stdout } = await agent.exec([...agent.readinessProbe, '--json'])
      const { tunnel } = JSON.parse(stdout) as { tunnel: { servers: readonly { connected: boolean }[] } }
      assert.deepEqual(
        tunnel.servers.map(({ connected }) => connected),
        [true],
      )
    })
  })

  test('cannot write anywhere but into their volumes', async () => {
    for (const [path, isWritable] of [
      ['/usr/local/bin/x', false],
      ['/etc/x', false],
      ['/etc/edgemesh/config/x', false],
      ['/var/lib/x', false],
      ['/var/lib/edgemesh/x', true],
      ['/run/edgemesh/x', true],
    ] as const) {
      const { code } = await agent.exec(['touch', path])
      assert.equal(code === 0, isWritable, path)
    }
  })
})
