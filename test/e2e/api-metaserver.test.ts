/**
 * An agent beside KubeEdge's metaServer, played by the API double with metaServer's habits; the API of the cluster is
 * nowhere:
 *
 *        router-a        NAT
 *           │
 *        edge-a1         metaServer on 127.0.0.1:10550, agent; pods web-, other- and client-edge-a1
 */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { KubeObject } from '../envtest/index.ts'
import {
  createLab,
  endpointSliceManifest,
  type Host,
  type Lab,
  type LabProcess,
  serviceManifest,
  startTestServer,
} from '../lab/index.ts'
import { type DoubleStore, startDoubleStore } from './support/double-store.ts'
import { runPod } from './support/pod.ts'
import { addWebServices, edgemesh, eventually, get, resolve, statusOf, writeService } from './support/site.ts'
import { startSteadyRequests } from './support/steady-requests.ts'

const metaServerPort = 10550
const services = `http://127.0.0.1:${metaServerPort}/api/v1/services`
const served = ['/api/v1/services', '/api/v1/nodes', '/api/v1/pods', '/apis/discovery.k8s.io/v1/endpointslices']

let lab: Lab
let edge: Host
let metaServer: DoubleStore
let agent: LabProcess
before(async () => {
  lab = await createLab({
    lans: { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1', 'other-edge-a1', 'client-edge-a1'] } } } },
  })
  edge = lab.node('edge-a1')
  const habits = { ignoresLimit: true, oddSelfLink: true, withoutHistory: true }
  metaServer = await startDoubleStore(edge, { port: metaServerPort, served, habits }, {})
  lab.useManifests(metaServer)
  await addWebServices(lab, ['edge-a1'])
  agent = await lab.startAgent('edge-a1', { kubeAPIConfig: { recheckPeriod: 2 } })
})
after(() => lab?.[Symbol.asyncDispose]())

interface ServiceList {
  readonly items: readonly {
    readonly metadata: { readonly name: string; readonly namespace: string }
    readonly spec: { readonly clusterIP: string }
  }[]
}

/** Services as `name address`, as a person sees them with curl. */
async function listedByCurl(): Promise<string[]> {
  const { stdout, stderr } = await edge.exec(['curl', '-sS', services])
  assert.notEqual(stdout, '', stderr)
  const { items }: ServiceList = JSON.parse(stdout)
  return items.map(({ metadata, spec }) => `${metadata.namespace}/${metadata.name} ${spec.clusterIP}`).sort()
}

/** The agent has exactly these Services: it counts as many, and each name has its address. */
async function assertAgentHas(listed: readonly string[]): Promise<void> {
  const { metadata } = await statusOf(edge)
  assert.equal(metadata?.services, listed.length)
  const known = await Promise.all(
    listed.map(async (line) => {
      const [, name = ''] = /\/(\S+) /.exec(line) ?? []
      return `default/${name} ${await resolve(edge, name)}`
    }),
  )
  assert.deepEqual(known, listed)
}

test('is found without a word about it in the configuration, and status says so', async () => {
  const { metadata } = await statusOf(edge)
  assert.match(metadata?.source ?? '', /^metaServer http:\/\/127\.0\.0\.1:10550 \(metaServer answers/)
  assert.deepEqual(metadata?.problems, [])
  assert.equal(await get(lab.pod('client-edge-a1'), 'web-edge-a1'), 'web-edge-a1')
})

test('curl and the agent see the same list, also when it changes', async (t) => {
  await assertAgentHas(await listedByCurl())
  const manifest = (name: string, clusterIP: string) => serviceManifest({ name, clusterIP, ports: [{ port: 80 }] })
  for (let index = 1; index <= 5; index++) {
    await lab.writeManifest(`more-${index}.yaml`, manifest(`more-${index}`, `10.96.7.${index}`))
  }
  await lab.removeManifest('more-3.yaml')
  await lab.writeManifest('more-4.yaml', manifest('more-4', '10.96.7.44'))
  const listed = await listedByCurl()
  assert.equal(listed.length, 5)
  assert.ok(listed.includes('default/more-4 10.96.7.44') && !listed.join().includes('more-3'))
  const ms = await eventually(10_000, () => assertAgentHas(listed))
  t.diagnostic(`the same after ${ms.toFixed(0)} ms`)
})

test('a metaServer that is killed costs nothing, and is followed again when it is back', async (t) => {
  await metaServer.kill()
  const client = lab.pod('client-edge-a1')
  assert.equal(await get(client, 'web-edge-a1'), 'web-edge-a1')
  await using requests = await startSteadyRequests(client, ['http://10.96.0.1/'], { everyMs: 50, timeoutMs: 5_000 })
  await metaServer.restart()
  const manifest = serviceManifest({ name: 'after', clusterIP: '10.96.7.99', ports: [{ port: 80 }] })
  await lab.writeManifest('after.yaml', manifest)
  const ms = await eventually(60_000, async () => assertAgentHas(await listedByCurl()))
  t.diagnostic(`followed again after ${ms.toFixed(0)} ms`)
  const failed = requests.ended().filter(({ answer }) => answer !== 'web-edge-a1')
  assert.deepEqual(failed, [])
  assert.equal(agent.exit, undefined)
})

/** A Pod of the node, as kubelet reports it there. */
function podAt(podIP: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web-edge-a1', namespace: 'default' },
    spec: { nodeName: 'edge-a1' },
    status: { phase: 'Running', podIP, podIPs: [{ ip: podIP }], conditions: [{ type: 'Ready', status: 'True' }] },
  })
}

test('after a reboot without the cloud a pod of the node is reached at its new address, which no slice tells', async (t) => {
  const client = lab.pod('client-edge-a1')
  const formerAddress = '10.244.250.7'
  const httpPorts = [{ port: 80, targetPort: 8080 }]
  const endpoints = [{ address: formerAddress, nodeName: 'edge-a1', podName: 'web-edge-a1' }]
  await lab.writeManifest('pod.yaml', podAt(formerAddress))
  await lab.writeManifest('moved.yaml', serviceManifest({ name: 'moved', clusterIP: '10.96.7.60', ports: httpPorts }))
  await lab.writeManifest('moved-1.yaml', endpointSliceManifest({ serviceName: 'moved', ports: httpPorts, endpoints }))
  await eventually(10_000, async () => void (await resolve(edge, 'moved')))
  await assert.rejects(get(client, 'moved', '/', 1_000))
  await agent.stop()
  await edgemesh(edge, 'cleanup')
  await lab.writeManifest('pod.yaml', podAt(lab.pod('web-edge-a1').address))
  agent = await lab.startAgent('edge-a1', { kubeAPIConfig: { recheckPeriod: 2 } })
  const ms = await eventually(10_000, async () => assert.equal(await get(client, 'moved', '/', 1_000), 'web-edge-a1'))
  t.diagnostic(`reached ${ms.toFixed(0)} ms after the agent was ready`)
})

/** Who answers connections to the two pods behind `twins`, one after the other. */
async function answersOfTwins(): Promise<string[]> {
  const answers: string[] = []
  for (let request = 0; request < 12; request++) answers.push(await get(lab.pod('client-edge-a1'), 'twins'))
  return [...new Set(answers)].sort()
}

test('DestinationRules that can only be installed after the agent has started take effect without a restart', async (t) => {
  const twins = ['web-edge-a1', 'other-edge-a1'].map((name) => lab.pod(name))
  await startTestServer(lab.pod('other-edge-a1'), 'http', { port: 8080 })
  await writeService(
    lab,
    'twins',
    '10.96.8.1',
    twins.map((host) => ({ node: 'edge-a1', host, port: 8080 })),
  )
  await eventually(10_000, async () => assert.deepEqual(await answersOfTwins(), ['other-edge-a1', 'web-edge-a1']))
  await metaServer.serve('DestinationRule')
  await lab.writeManifest(
    'rule.yaml',
    JSON.stringify({
      apiVersion: 'networking.istio.io/v1beta1',
      kind: 'DestinationRule',
      metadata: { name: 'twins', namespace: 'default' },
      spec: { host: 'twins', trafficPolicy: { loadBalancer: { consistentHash: { useSourceIp: true } } } },
    }),
  )
  const ms = await eventually(30_000, async () => assert.equal((await answersOfTwins()).length, 1))
  t.diagnostic(`one client, one pod ${ms.toFixed(0)} ms after the definition and the rule were there`)
  assert.equal(agent.exit, undefined)
})

/** What the Go agent is given in its ConfigMap, with the keys that its documentation names. */
const goConfiguration = `apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1
kind: EdgeMeshAgent
kubeAPIConfig:
  contentType: application/json
  qps: 100
  burst: 200
  deleteKubeConfig: false
  metaServer:
    server: http://127.0.0.1:10550
    security:
      requireAuthorization: false
      insecureSkipTLSVerify: false
      tlsCaFile: /etc/edgemesh/metaserver/rootCA.crt
      tlsCertFile: /etc/edgemesh/metaserver/server.crt
      tlsPrivateKeyFile: /etc/edgemesh/metaserver/server.key
commonConfig:
  bridgeDeviceName: edgemesh0
  bridgeDeviceIP: 169.254.96.16
  pprofConfig: { enableProfiling: false }
modules:
  edgeDNS:
    enable: true
    listenPort: 53
    cacheDNS: { enable: false, autoDetect: true, cacheTTL: 30 }
  edgeProxy:
    enable: true
    serviceFilterMode: FilterIfLabelExists
    socks5Proxy: { enable: false, listenPort: 10800 }
    loadBalancer: { consistentHash: { partitionCount: 100, replicationFactor: 10, load: 1.25 } }
  edgeTunnel:
    enable: true
    listenPort: 20006
    transport: tcp
    rendezvous: EDGEMESH_PLAYGOUND
    relayNodes:
      - nodeName: edge-a1
        advertiseAddress: [192.168.1.11]
      - nodeName: k8s-master
        advertiseAddress: [203.0.113.250]
    enableIpfsLog: false
    maxCandidates: 5
    heartbeatPeriod: 120
    finderPeriod: 60
    psk: { enable: true, path: /etc/edgemesh/psk }
    tunnelLimitConfig: { enable: true, tunnelBaseStreamIn: 10240, tunnelBaseStreamOut: 10240 }
    metricConfig: { enable: false, port: 9999 }
  edgeCNI:
    enable: false
    meshCIDRConfig: { cloudCIDR: [10.244.0.0/18], edgeCIDR: [10.244.64.0/18] }
`

/** The Go system's pod: the same command line, paths and environment. */
const goDaemonSet: KubeObject = {
  apiVersion: 'apps/v1',
  kind: 'DaemonSet',
  metadata: { name: 'edgemesh-agent', namespace: 'kubeedge' },
  spec: {
    template: {
      spec: {
        containers: [
          {
            command: ['/usr/local/bin/edgemesh', 'agent', '--config-file', '/etc/edgemesh/config/edgemesh-agent.yaml'],
            volumeMounts: [
              { name: 'psk', mountPath: '/etc/edgemesh' },
              { name: 'conf', mountPath: '/etc/edgemesh/config' },
              { name: 'state', mountPath: '/var/lib/edgemesh' },
              { name: 'run', mountPath: '/run/edgemesh' },
            ],
            readinessProbe: { exec: { command: ['/usr/local/bin/edgemesh', 'status', 'agent'] } },
            securityContext: {
              allowPrivilegeEscalation: false,
              capabilities: { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'] },
            },
          },
        ],
        volumes: [
          // The Go system shows the key to everybody in the pod, which ours refuses.
          { name: 'psk', secret: { secretName: 'edgemesh-agent-psk', defaultMode: 0o400 } },
          { name: 'conf', configMap: { name: 'edgemesh-agent-cfg' } },
          { name: 'state', hostPath: { path: '/var/lib/edgemesh', type: 'DirectoryOrCreate' } },
          { name: 'run', hostPath: { path: '/run/edgemesh', type: 'DirectoryOrCreate' } },
        ],
      },
    },
  },
}

test('the configuration and the paths of a Go agent run this one', async () => {
  await agent.stop()
  await edgemesh(edge, 'cleanup')
  const v1 = { apiVersion: 'v1' }
  const objects: KubeObject[] = [
    {
      ...v1,
      kind: 'ConfigMap',
      metadata: { name: 'edgemesh-agent-cfg' },
      data: { 'edgemesh-agent.yaml': goConfiguration },
    },
    { ...v1, kind: 'Secret', metadata: { name: 'edgemesh-agent-psk' }, data: { psk: btoa('the key of the Go mesh') } },
  ]
  const env = { NODE_NAME: 'edge-a1', NAMESPACE: 'kubeedge' }
  const pod = await runPod(edge, goDaemonSet, objects, { env })
  await using running = pod.process
  await running.waitForLine(/"msg":"agent ready"/, 15_000)
  await eventually(10_000, async () => {
    assert.equal(await get(lab.pod('client-edge-a1'), 'web-edge-a1', '/', 2_000), 'web-edge-a1')
  })
  assert.doesNotMatch(running.output(), /"level":"error"/)
  assert.match(running.output(), /"msg":"relays for others now"/)
  const { stdout } = await pod.exec([...pod.readinessProbe, '--json'])
  assert.match(stdout, /"source": "metaServer /)
})
