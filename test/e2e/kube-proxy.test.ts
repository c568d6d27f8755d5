/**
 * Beside a real kube-proxy in iptables mode: the Services that edgemesh handles are edgemesh's, the others stay
 * kube-proxy's, whichever of the two was there first. The same ClusterIP leads nowhere in the API, which kube-proxy
 * follows, and to a real endpoint in what edgemesh is told. With rules of iptables both have chains of the same kind.
 *
 *        wan ── control-plane (API server), cloud-1 (http :8080)
 *         │
 *      router-a ── edge-a1 (kube-proxy and edgemesh) ── pods web, client
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, suite, test } from 'node:test'
import { admin, type ControlPlane, findKubeProxy, isWithoutEnvtest } from '../envtest/index.ts'
import {
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import type { SceneService } from './service-proxy-process.ts'
import { argumentsBeside, argumentsFor, type RulesWay, rulesWays } from './support/rules-way.ts'
import { createClusterLab, eventually } from './support/site.ts'

const script = resolve(import.meta.dirname, 'service-proxy-process.ts')
const ours = { clusterIP: '10.96.0.10', nodePort: 30080 }
const theirs = { clusterIP: '10.96.0.11', nodePort: 30081 }
/** Where nobody is: who follows the API waits in vain. */
const nowhere = '192.0.2.1'

if (!isWithoutEnvtest())
  suite('beside kube-proxy', () => {
    let lab: Lab
    let plane: ControlPlane
    let node: Host
    let client: Host
    let file: string

    before(async () => {
      ;({ lab, plane } = await createClusterLab({
        cloud: ['cloud-1'],
        lans: { a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client'], bridgeNf: true } } } },
      }))
      node = lab.node('edge-a1')
      client = lab.pod('client')
      for (const host of [lab.pod('web'), lab.node('cloud-1')]) await startTestServer(host, 'http', { port: 8080 })
      await writeInApi('ours', ours, nowhere)
      await writeInApi('theirs', theirs, lab.pod('web').address)
      file = join(node.dir, 'scene.json')
      const backends = [{ node: 'cloud-1', address: lab.node('cloud-1').address, port: 8080 }]
      const services: SceneService[] = [{ name: 'ours', port: 80, ...ours, backends }]
      await writeFile(file, JSON.stringify({ nodeName: 'edge-a1', services }))
    })
    after(() => lab?.[Symbol.asyncDispose]())

    async function writeInApi(name: string, at: typeof ours, address: string): Promise<void> {
      const ports = [{ port: 80, targetPort: 8080, nodePort: at.nodePort }]
      const service = serviceManifest({ name, clusterIP: at.clusterIP, type: 'NodePort', ports })
      const slice = endpointSliceManifest({ serviceName: name, ports, endpoints: [{ address, nodeName: 'edge-a1' }] })
      await lab.writeManifest(`${name}.yaml`, `${service}---\n${slice}`)
    }

    async function startKubeProxy(way: RulesWay): Promise<LabProcess> {
      const kubeconfig = await plane.writeKubeconfig('kube-proxy', { token: admin.token })
      // With an address it need not find its Node.
      const flags = [
        '--hostname-override=edge-a1',
        '--proxy-mode=iptables',
        '--cluster-cidr=10.244.0.0/16',
        `--bind-address=${node.address}`,
      ]
      const limits = ['--conntrack-max-per-core=0', '--conntrack-tcp-timeout-established=0s']
      const argv = [await findKubeProxy(), `--kubeconfig=${kubeconfig}`, ...flags, ...limits]
      const running = node.spawn(argumentsBeside(way, node, argv))
      await eventually(60_000, async () =>
        assert.equal(await answerTo(client, theirs.clusterIP), 'web', running.output()),
      )
      return running
    }

    async function startOurs(way: RulesWay): Promise<LabProcess> {
      const running = node.spawn(argumentsFor(way, node, [process.execPath, script, file]))
      await running.waitForLine(/^ready/, 60_000)
      return running
    }

    async function clearRules(): Promise<void> {
      const tables = ['nat', 'filter', 'mangle', 'raw']
      const legacy = tables.map((table) => `iptables-legacy -t ${table} -F; iptables-legacy -t ${table} -X`)
      const { code, stderr } = await node.exec(['sh', '-c', ['nft flush ruleset', ...legacy].join('; ')])
      assert.equal(code, 0, stderr)
    }

    async function answerTo(from: Host, authority: string): Promise<string> {
      return (await from.exec(['curl', '-sS', '--max-time', '2', `http://${authority}/`])).stdout.trim()
    }

    async function assertShared(): Promise<void> {
      for (const from of [node, client]) {
        assert.equal(await answerTo(from, ours.clusterIP), 'cloud-1', `${from.name} to ours`)
        assert.equal(
          await answerTo(from, `${node.address}:${ours.nodePort}`),
          'cloud-1',
          `${from.name} to our node port`,
        )
        assert.equal(await answerTo(from, theirs.clusterIP), 'web', `${from.name} to theirs`)
        assert.equal(
          await answerTo(from, `${node.address}:${theirs.nodePort}`),
          'web',
          `${from.name} to their node port`,
        )
      }
    }

    for (const way of rulesWays) {
      test(`that was there first, with rules of ${way.name}`, async () => {
        await clearRules()
        await using kubeProxy = await startKubeProxy(way)
        await using running = await startOurs(way)
        await assertShared()
        await running.stop()
        await kubeProxy.stop()
      })

      test(`that comes later, with rules of ${way.name}`, async () => {
        await clearRules()
        await using running = await startOurs(way)
        assert.equal(await answerTo(client, theirs.clusterIP), '')
        await using kubeProxy = await startKubeProxy(way)
        await eventually(5_000, assertShared)
        await running.stop()
        await kubeProxy.stop()
      })
    }
  })
