import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Role } from './documents.ts'
import { parseConfig } from './load-config.ts'

function noticesOf(text: string, role: Role = 'agent'): readonly string[] {
  return parseConfig(role, text, 'a.yaml', { NODE_NAME: 'edge-a1' }).notices
}

function pathsIn(notices: readonly string[]): string[] {
  return notices.map((line) => line.split(': ')[1] ?? '')
}

suite('a key that changes nothing', () => {
  test('is named once with its place and why', () => {
    assert.deepEqual(noticesOf('modules:\n  edgeTunnel:\n    heartbeatPeriod: 60\n'), [
      'a.yaml:3:5: modules.edgeTunnel.heartbeatPeriod: has no effect: how often a relay is asked follows from what it is used for',
    ])
  })

  test('is told apart from one that a later version will know', () => {
    assert.deepEqual(noticesOf('modules: { edgeCNI: { enable: true } }'), [
      'a.yaml:1:12: modules.edgeCNI: has no effect yet: the pod network follows in a later version',
    ])
  })

  test('is named only as long as another key does not make it count', () => {
    const withIdentity = (identity: string) =>
      noticesOf(`modules: { edgeTunnel: { rendezvous: elsewhere, identity: ${identity} } }`)
    assert.deepEqual(withIdentity('random'), [
      'a.yaml:1:26: modules.edgeTunnel.rendezvous: has no effect: only a mesh of derived identities is found by it',
    ])
    assert.deepEqual(withIdentity('derived'), [])
  })

  test('is named even when its value is the default, because it was asked for', () => {
    assert.deepEqual(pathsIn(noticesOf('modules: { edgeTunnel: { finderPeriod: 60 } }')), [
      'modules.edgeTunnel.finderPeriod',
    ])
  })

  test('is not named when nothing is asked for', () => {
    const text =
      'kubeAPIConfig: { deleteKubeConfig: false }\nmodules: { edgeTunnel: { relayNodes: [], enableIpfsLog: false } }'
    assert.deepEqual(noticesOf(text), [])
  })

  test('is not named when it is not written', () => {
    assert.deepEqual(noticesOf('modules: { edgeProxy: { enable: true }, edgeTunnel: { enable: true } }'), [])
  })
})

suite('a group that changes nothing', () => {
  test('is named as a whole', () => {
    const text = 'modules: { edgeCNI: { enable: true, meshCIDRConfig: { cloudCIDR: [10.0.0.0/8] } } }'
    assert.deepEqual(pathsIn(noticesOf(text)), ['modules.edgeCNI'])
  })

  test('is silent while it is switched off, in words or by default', () => {
    assert.deepEqual(
      noticesOf('modules: { edgeCNI: { enable: false, meshCIDRConfig: { cloudCIDR: [10.0.0.0/8] } } }'),
      [],
    )
    assert.deepEqual(noticesOf('modules: { edgeCNI: { meshCIDRConfig: { cloudCIDR: [10.0.0.0/8] } } }'), [])
  })
})

suite("the Go system's documents parse unchanged", () => {
  const asInstalled = (module: string) => `
# Explains itself.
modules:
  ${module}:
    enable: true
  edgeTunnel:
    enable: true
    relayNodes:
    - nodeName: cloud-1
      advertiseAddress:
      - 192.0.2.1
    #- nodeName: another
`

  test("as its agent's ConfigMap has them, and mean the same", () => {
    const { config, notices } = parseConfig('agent', asInstalled('edgeProxy'), 'edgemesh-agent.yaml', {
      NODE_NAME: 'edge-a1',
    })
    const { edgeTunnel, edgeProxy, edgeDNS } = config.modules
    const { relayNodes, listenPort, psk } = edgeTunnel
    assert.deepEqual(notices, [])
    assert.deepEqual([edgeProxy.enable, edgeDNS.enable, edgeTunnel.enable], [true, true, true])
    assert.deepEqual(relayNodes, [{ nodeName: 'cloud-1', advertiseAddress: ['192.0.2.1'] }])
    assert.deepEqual([listenPort, psk.enable, psk.path], [20_006, true, '/etc/edgemesh/psk'])
  })

  test("and as its gateway's ConfigMap has them", () => {
    const { config, notices } = parseConfig('gateway', asInstalled('edgeGateway'), 'edgemesh-gateway.yaml', {
      NODE_NAME: 'cloud-1',
    })
    const { edgeGateway, edgeTunnel } = config.modules
    assert.deepEqual(notices, [])
    assert.deepEqual([edgeGateway.enable, edgeTunnel.enable, edgeTunnel.listenPort], [true, true, 20_007])
  })

  test('where its agent runs in a mesh of both kinds, with the one key more that ours needs and its agent leaves out', () => {
    const text = asInstalled('edgeProxy').replace('    relayNodes:', '    identity: derived\n    relayNodes:')
    const { config, notices } = parseConfig('agent', text, 'edgemesh-agent.yaml', { NODE_NAME: 'edge-a1' })
    assert.deepEqual([config.modules.edgeTunnel.identity, notices], ['derived', []])
  })

  test('with every key of the agent, also those that it writes for itself', () => {
    const text = `
kubeAPIConfig:
  master: https://192.0.2.1:6443
  contentType: application/vnd.kubernetes.protobuf
  qps: 100
  burst: 200
  kubeConfig: /root/.kube/config
  mode: ManualMode
  deleteKubeConfig: true
  metaServer:
    server: https://127.0.0.1:10550
    security: { requireAuthorization: true, insecureSkipTLSVerify: true, tlsCaFile: /ca, tlsCertFile: /crt, tlsPrivateKeyFile: /key }
commonConfig:
  bridgeDeviceName: edgemesh0
  bridgeDeviceIP: 169.254.96.16
  pprofConfig: { enableProfiling: true, profilingAddress: 127.0.0.1, profilingPort: 6060 }
modules:
  edgeDNS:
    enable: true
    listenPort: 53
    listenInterface: edgemesh0
    kubeAPIConfig: { mode: EdgeMode }
    cacheDNS: { enable: true, autoDetect: true, upstreamServers: [10.96.0.10], cacheTTL: 30 }
  edgeProxy:
    enable: true
    listenInterface: edgemesh0
    serviceFilterMode: FilterIfLabelExists
    socks5Proxy: { enable: true, listenPort: 10800, nodeName: a, namespace: kubeedge }
    loadBalancer: { caller: ProxyCaller, nodeName: a, consistentHash: { partitionCount: 100, replicationFactor: 10, load: 1.25 } }
  edgeTunnel:
    enable: true
    mode: ServerAndClient
    nodeName: a
    configPath: /etc/edgemesh/config/edgemesh-agent.yaml
    listenPort: 20006
    transport: tcp
    rendezvous: EDGEMESH_PLAYGOUND
    relayNodes: [{ nodeName: cloud-1, advertiseAddress: [192.0.2.1, relay.example.org, "2001:db8::1"] }]
    enableIpfsLog: true
    maxCandidates: 5
    heartbeatPeriod: 120
    finderPeriod: 60
    psk: { enable: true, path: /etc/edgemesh/psk }
    tunnelLimitConfig: { enable: true, tunnelBaseStreamIn: 1, tunnelBaseStreamOut: 1, tunnelPeerBaseStreamIn: 1, tunnelPeerBaseStreamOut: 1 }
    listenInterfaces: "*"
    extraFilteredInterfaces: "veth,cali"
    metricConfig: { enable: true, port: 9999 }
  edgeCNI:
    enable: true
    encapsulationIP: 192.0.2.1
    tunMode: 2
    meshCIDRConfig: { cloudCIDR: [10.244.0.0/16], edgeCIDR: [10.245.0.0/16] }
`
    assert.deepEqual(pathsIn(noticesOf(text)), [
      'kubeAPIConfig.contentType',
      'kubeAPIConfig.mode',
      'kubeAPIConfig.deleteKubeConfig',
      'commonConfig.pprofConfig',
      'modules.edgeDNS.listenInterface',
      'modules.edgeDNS.kubeAPIConfig',
      'modules.edgeProxy.listenInterface',
      'modules.edgeProxy.socks5Proxy.nodeName',
      'modules.edgeProxy.socks5Proxy.namespace',
      'modules.edgeProxy.loadBalancer.caller',
      'modules.edgeProxy.loadBalancer.nodeName',
      'modules.edgeTunnel.mode',
      'modules.edgeTunnel.nodeName',
      'modules.edgeTunnel.configPath',
      'modules.edgeTunnel.rendezvous',
      'modules.edgeTunnel.enableIpfsLog',
      'modules.edgeTunnel.maxCandidates',
      'modules.edgeTunnel.heartbeatPeriod',
      'modules.edgeTunnel.finderPeriod',
      'modules.edgeCNI',
    ])
  })

  test('with every key of the gateway', () => {
    const text = `
apiVersion: gateway.edgemesh.config.kubeedge.io/v1alpha1
kind: EdgeMeshGateway
kubeAPIConfig: { mode: CloudMode }
pprofConfig: { enableProfiling: true }
modules:
  edgeGateway:
    enable: true
    nic: eth0,eth1
    includeIP: 192.0.2.0/24
    excludeIP: "*"
    loadBalancer: { caller: GatewayCaller, consistentHash: { load: 2 } }
  edgeTunnel: { enable: true, listenPort: 20007, mode: ClientOnly }
`
    assert.deepEqual(pathsIn(noticesOf(text, 'gateway')), [
      'kubeAPIConfig.mode',
      'pprofConfig',
      'modules.edgeGateway.loadBalancer.caller',
      'modules.edgeTunnel.mode',
    ])
  })
})
