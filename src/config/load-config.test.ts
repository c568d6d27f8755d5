import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { afterEach, beforeEach, suite, test } from 'node:test'
import type { Role } from './documents.ts'
import { defaultConfigFileOf, loadConfig, parseConfig, roleOfFile, runtimeDirOf } from './load-config.ts'
import { ConfigError } from './problem.ts'

const env = { NODE_NAME: 'edge-a1' }

/** The lines that a person reads when a document is refused; none when it is taken. */
function complaintsOf(text: string, role: Role = 'agent', environment = env): string[] {
  try {
    parseConfig(role, text, 'a.yaml', environment)
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.split('\n')
  }
}

const shapeCases: readonly (readonly [name: string, text: string, ...expected: string[]])[] = [
  [
    'a proxy of another kind, whose password is not shown',
    'modules:\n  edgeTunnel:\n    proxy: socks5://site:secret@proxy:1080\n',
    'a.yaml:3:5: modules.edgeTunnel.proxy: expected http://[user:password@]host:port or environment; write it like http://proxy.example.org:3128, and special characters of a password as %XX',
  ],
  [
    'a port that is listened on twice',
    'modules:\n  edgeTunnel:\n    morePorts: [443, 20006]\n',
    'a.yaml:3:22: modules.edgeTunnel.morePorts[1]: 20006 is listened on already; remove it',
  ],
  [
    'a word where a port belongs',
    'modules:\n  edgeDNS:\n    listenPort: "dns"\n',
    'a.yaml:3:5: modules.edgeDNS.listenPort: expected an integer in 1..65535, got "dns"; write a port number, for example 53',
  ],
  [
    'a quoted port',
    'modules:\n  edgeTunnel:\n    listenPort: "20006"\n',
    'a.yaml:3:5: modules.edgeTunnel.listenPort: expected an integer in 0..65535, got "20006"; remove the quotes: 20006',
  ],
  [
    'a port beyond the last',
    'modules:\n  edgeDNS: { listenPort: 65536 }\n',
    'a.yaml:2:14: modules.edgeDNS.listenPort: expected an integer in 1..65535, got 65536; write a port number, for example 53',
  ],
  [
    'a fraction where a whole number belongs',
    'modules:\n  edgeTunnel:\n    maxCandidates: 1.5\n',
    'a.yaml:3:5: modules.edgeTunnel.maxCandidates: expected an integer of at least 1, got 1.5; write a number, for example 15',
  ],
  [
    'switches that leave no path',
    'modules:\n  edgeTunnel:\n    paths:\n      directOnly: true\n      relayOnly: true\n',
    'a.yaml:5:7: modules.edgeTunnel.paths.relayOnly: leaves no path together with directOnly; set one of the two',
  ],
  [
    'a number that must be above zero',
    'kubeAPIConfig:\n  qps: -1\n',
    'a.yaml:2:3: kubeAPIConfig.qps: expected a number above 0, got -1; write a number, for example 100',
  ],
  [
    'not a number',
    'kubeAPIConfig:\n  qps: .nan\n',
    'a.yaml:2:3: kubeAPIConfig.qps: expected a number above 0, got NaN; write a number, for example 100',
  ],
  [
    'yes, which the Go system takes for true',
    'modules:\n  edgeDNS:\n    enable: yes\n',
    'a.yaml:3:5: modules.edgeDNS.enable: expected true or false, got "yes"; write true without quotes',
  ],
  [
    'a number where true or false belongs',
    'modules:\n  edgeDNS:\n    enable: 1\n',
    'a.yaml:3:5: modules.edgeDNS.enable: expected true or false, got 1; write true or false',
  ],
  [
    'a misspelt choice',
    'modules:\n  edgeProxy:\n    serviceFilterMode: FilterIfLabelExist\n',
    'a.yaml:3:5: modules.edgeProxy.serviceFilterMode: expected one of FilterIfLabelExists, FilterIfLabelDoesNotExists, got "FilterIfLabelExist"; did you mean "FilterIfLabelExists"? or write one of FilterIfLabelExists, FilterIfLabelDoesNotExists',
  ],
  [
    'a name that YAML takes for a number',
    'nodeName: 123\n',
    'a.yaml:1:1: nodeName: expected a node name of lower-case letters, digits, "-" and ".", got 123; put it in quotes: "123"',
  ],
  [
    'a node name that Kubernetes would not take',
    'nodeName: Edge_1\n',
    'a.yaml:1:1: nodeName: expected a node name of lower-case letters, digits, "-" and ".", got "Edge_1"; write it like edge-a1',
  ],
  [
    'a relative path',
    'stateDir: state\nmodules:\n  edgeTunnel:\n    psk:\n      path: ./psk\n',
    'a.yaml:1:1: stateDir: expected an absolute path, got "state"; write it like /var/lib/edgemesh/agent',
    'a.yaml:5:7: modules.edgeTunnel.psk.path: expected an absolute path, got "./psk"; write it like /etc/edgemesh/psk',
  ],
  [
    'a folder whose socket would have too long a path',
    `runtimeDir: /${'d'.repeat(90)}\n`,
    `a.yaml:1:1: runtimeDir: expected an absolute path of at most 90 characters, got "/${'d'.repeat(75)}...; write it like /run/edgemesh/agent`,
  ],
  [
    'an address that is none',
    'commonConfig:\n  bridgeDeviceIP: 169.254.96.256\n',
    'a.yaml:2:3: commonConfig.bridgeDeviceIP: expected an IPv4 address, got "169.254.96.256"; write it like 169.254.96.16',
  ],
  [
    'servers that are none',
    'modules:\n  edgeTunnel:\n    servers:\n      - https://mesh.example.org\n      - mesh.example.org:70000\n      - 300.1.1.1\n      - mesh.example.org/p2p/short\n',
    'a.yaml:4:9: modules.edgeTunnel.servers[0]: expected host[:port][/p2p/PEER_ID], got "https://mesh.example.org"; write it like mesh.example.org:20004',
    'a.yaml:5:9: modules.edgeTunnel.servers[1]: expected host[:port][/p2p/PEER_ID], got "mesh.example.org:70000"; write it like mesh.example.org:20004',
    'a.yaml:6:9: modules.edgeTunnel.servers[2]: expected host[:port][/p2p/PEER_ID], got "300.1.1.1"; write it like mesh.example.org:20004',
    'a.yaml:7:9: modules.edgeTunnel.servers[3]: expected host[:port][/p2p/PEER_ID], got "mesh.example.org/p2p/short"; write it like mesh.example.org:20004',
  ],
  [
    'resolvers that are none',
    'modules:\n  edgeDNS:\n    upstreamServers: [dns.example.org, "192.0.2.53:0"]\n',
    'a.yaml:3:23: modules.edgeDNS.upstreamServers[0]: expected an IP address with an optional port, got "dns.example.org"; write it like 192.0.2.53:53',
    'a.yaml:3:40: modules.edgeDNS.upstreamServers[1]: expected an IP address with an optional port, got "192.0.2.53:0"; write it like 192.0.2.53:53',
  ],
  [
    'one value where a list belongs',
    'modules:\n  edgeTunnel:\n    servers: mesh.example.org\n',
    'a.yaml:3:5: modules.edgeTunnel.servers: expected a list, got "mesh.example.org"; write a list, one "- " line for each entry',
  ],
  [
    'a value where a group of keys belongs',
    'modules:\n  edgeTunnel: true\n',
    'a.yaml:2:3: modules.edgeTunnel: expected a mapping, got true; write its keys on indented lines below it',
  ],
  [
    'a relay without its name',
    'modules:\n  edgeTunnel:\n    relayNodes:\n      - advertiseAddress: [192.0.2.1]\n',
    'a.yaml:4:9: modules.edgeTunnel.relayNodes[0].nodeName: is required: text that is not empty; add "nodeName: cloud-1"',
  ],
  [
    'an empty list of muxers',
    'modules:\n  edgeTunnel:\n    muxers: []\n',
    'a.yaml:3:5: modules.edgeTunnel.muxers: expected a list of at least one of yamux, mplex, got []; write a list, one "- " line for each entry',
  ],
  [
    'a misspelt key',
    'modules:\n  edgeTunel:\n    enable: true\n',
    'a.yaml:2:3: modules.edgeTunel: unknown key; did you mean "edgeTunnel"? or remove it',
  ],
  [
    'a key in other letters, which the Go system takes',
    'modules:\n  edgeDns:\n    enable: true\n',
    'a.yaml:2:3: modules.edgeDns: unknown key: upper and lower case matter; did you mean "edgeDNS"? or remove it',
  ],
  [
    'a key in the wrong group',
    'modules:\n  servers: [mesh.example.org]\n',
    'a.yaml:2:3: modules.servers: unknown key here; did you mean "modules.edgeTunnel.servers"? or remove it',
  ],
  [
    'a key that resembles none',
    'modules:\n  networking:\n    enable: true\n',
    'a.yaml:2:3: modules.networking: unknown key; remove it; known here: edgeDNS, edgeProxy, edgeTunnel, edgeCNI',
  ],
  [
    'the key that JavaScript treats as special',
    '__proto__:\n  nodeName: evil\n',
    'a.yaml:1:1: __proto__: unknown key; remove it; known here: apiVersion, kind, nodeName, stateDir, runtimeDir, logLevel, kubeAPIConfig, commonConfig, modules',
  ],
]

suite('a value that does not fit is named with its place and a remedy:', () => {
  for (const [name, text, ...expected] of shapeCases) {
    test(name, () => assert.deepEqual(complaintsOf(text), expected))
  }
})

const meaningCases: readonly (readonly [name: string, text: string, ...expected: string[]])[] = [
  [
    'a synthetic range that holds the metadata service',
    'modules: { edgeProxy: { syntheticRange: 169.254.128.0/17 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: 169.254.128.0/17 holds 169.254.169.254, the metadata service of clouds; write a free range, for example 169.254.64.0/19',
  ],
  [
    'a synthetic range that holds the bridge address',
    'modules: { edgeProxy: { syntheticRange: 169.254.96.0/19 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: 169.254.96.0/19 holds commonConfig.bridgeDeviceIP, 169.254.96.16; choose a range without it',
  ],
  [
    'a synthetic range with bits beyond its prefix',
    'modules: { edgeProxy: { syntheticRange: 10.99.1.7/16 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: 10.99.1.7/16 has bits set beyond its prefix; write 10.99.0.0/16',
  ],
  [
    'a synthetic range that is too small',
    'modules: { edgeProxy: { syntheticRange: 10.99.0.0/31 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: expected a prefix between /8 and /30, got "10.99.0.0/31"; write a free range, for example 169.254.64.0/19',
  ],
  [
    'a synthetic range that is no network',
    'modules: { edgeProxy: { syntheticRange: 10.99.0.0 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: expected an IPv4 network, got "10.99.0.0"; write a free range, for example 169.254.64.0/19',
  ],
  [
    'a synthetic range of loopback addresses',
    'modules: { edgeProxy: { syntheticRange: 127.0.0.0/8 } }\n',
    'a.yaml:1:25: modules.edgeProxy.syntheticRange: 127.0.0.0/8 holds loopback, multicast or unspecified addresses; write a free range, for example 169.254.64.0/19',
  ],
  [
    'a bridge address that no device may hold',
    'commonConfig: { bridgeDeviceIP: 224.0.0.1 }\n',
    'a.yaml:1:17: commonConfig.bridgeDeviceIP: 224.0.0.1 cannot be the address of a device; write a free address, for example 169.254.96.16',
  ],
  [
    'quic with a pre-shared key',
    'modules: { edgeTunnel: { transport: quic } }\n',
    'a.yaml:1:26: modules.edgeTunnel.transport: quic cannot carry a pre-shared key, and psk.enable is true; write tcp',
  ],
  [
    'a transport that does not exist yet',
    'modules: { edgeTunnel: { transport: ws } }\n',
    'a.yaml:1:26: modules.edgeTunnel.transport: ws is not available in this version; write tcp',
  ],
  [
    'a server listed twice',
    'modules: { edgeTunnel: { servers: [a.example, b.example, a.example] } }\n',
    'a.yaml:1:58: modules.edgeTunnel.servers[2]: "a.example" is listed twice; remove one of the two',
  ],
  [
    'two sources of objects',
    'kubeAPIConfig: { manifests: /m, kubeConfig: /k }\n',
    'a.yaml:1:33: kubeAPIConfig.kubeConfig: names a second source of objects beside kubeAPIConfig.manifests; remove one of the two',
  ],
  [
    'DNS and SOCKS5 on one port',
    'modules: { edgeProxy: { socks5Proxy: { enable: true, listenPort: 53 } } }\n',
    'a.yaml:1:54: modules.edgeProxy.socks5Proxy.listenPort: 53 is also modules.edgeDNS.listenPort, on the same address; choose different ports',
  ],
  [
    'metrics on an address that is none',
    'modules: { edgeTunnel: { metricConfig: { address: everywhere } } }\n',
    'a.yaml:1:42: modules.edgeTunnel.metricConfig.address: expected an IP address, got "everywhere"; write it like 0.0.0.0',
  ],
  [
    'a server on its own port in a mesh of derived identities',
    'modules: { edgeTunnel: { enable: true, identity: derived, servers: [192.0.2.1, "192.0.2.2:20006"] } }\n',
    "a.yaml:1:69: modules.edgeTunnel.servers[0]: in a mesh of derived identities servers listen on everyone's port 20006, not 20004; write the server's port, :20006",
  ],
  [
    'names that are pinned in a mesh of derived identities',
    'modules: { edgeTunnel: { enable: true, identity: derived, trust: pinned } }\n',
    'a.yaml:1:59: modules.edgeTunnel.trust: in a mesh of derived identities every name has one identity, that anybody can derive; remove the line',
  ],
  [
    'a name that is revoked and has an identity at the same time',
    'modules: { edgeTunnel: { peers: { edge-a: 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X }, revoked: [edge-a] } }\n',
    'a.yaml:1:109: modules.edgeTunnel.revoked[0]: edge-a is also in modules.edgeTunnel.peers; revoke its peer ID to let another machine take the name, or remove it from peers',
  ],
  [
    'a node that is revoked twice',
    'modules: { edgeTunnel: { revoked: [edge-a, edge-a] } }\n',
    'a.yaml:1:44: modules.edgeTunnel.revoked[1]: "edge-a" is listed twice; remove one of the two',
  ],
  [
    'what is neither a node name nor a peer ID',
    'modules: { edgeTunnel: { revoked: [Edge_A] } }\n',
    'a.yaml:1:36: modules.edgeTunnel.revoked[0]: expected a node name or a peer ID, got "Edge_A"; write it like edge-a1',
  ],
  [
    'an identity that is none',
    'modules: { edgeTunnel: { peers: { edge-a: me } } }\n',
    'a.yaml:1:35: modules.edgeTunnel.peers.edge-a: expected a peer ID, got "me"; write it like 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X',
  ],
  [
    'an identity for what is no node name',
    'modules: { edgeTunnel: { peers: { Edge_A: 12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X } } }\n',
    'a.yaml:1:35: modules.edgeTunnel.peers.Edge_A: expected a node name, got "Edge_A"; write it like edge-a1',
  ],
  [
    'metrics on the port of the tunnel',
    'modules: { edgeTunnel: { enable: true, metricConfig: { enable: true, port: 20006 } } }\n',
    'a.yaml:1:70: modules.edgeTunnel.metricConfig.port: 20006 is also modules.edgeTunnel.listenPort; choose different ports',
  ],
]

suite('values that cannot work are named:', () => {
  for (const [name, text, ...expected] of meaningCases) {
    test(name, () => assert.deepEqual(complaintsOf(text), expected))
  }

  test('a server with a port of its own in a mesh of derived identities', () => {
    assert.deepEqual(complaintsOf('modules: { edgeTunnel: { identity: derived } }\n', 'server'), [
      'a.yaml:1:12: modules.edgeTunnel.listenPort: in a mesh of derived identities a server cannot have a port of its own, 20004; write the port that all agents listen on, usually 20006',
    ])
    assert.deepEqual(complaintsOf('modules: { edgeTunnel: { identity: derived, listenPort: 20006 } }\n', 'server'), [])
  })

  test('a server whose tunnel is off', () => {
    assert.deepEqual(complaintsOf('modules:\n  edgeTunnel:\n    enable: false\n', 'server'), [
      'a.yaml:3:5: modules.edgeTunnel.enable: a server whose tunnel is off does nothing; remove the line',
    ])
  })

  test('all problems come at once, in the order of the file, values and combinations alike', () => {
    const text = [
      'modules:',
      '  edgeProxy:',
      '    syntheticRange: 169.254.96.0/19',
      '    listenPort: "x"',
      '  edgeTunnel:',
      '    transport: ws',
      '    servers: [5:5:5]',
      '    unknown: 1',
    ].join('\n')
    assert.deepEqual(
      complaintsOf(text).map((line) => line.split(': ').slice(0, 2).join(' ')),
      [
        'a.yaml:3:5 modules.edgeProxy.syntheticRange',
        'a.yaml:4:5 modules.edgeProxy.listenPort',
        'a.yaml:6:5 modules.edgeTunnel.transport',
        'a.yaml:7:15 modules.edgeTunnel.servers[0]',
        'a.yaml:8:5 modules.edgeTunnel.unknown',
      ],
    )
  })
})

const yamlCases: readonly (readonly [name: string, text: string, ...expected: string[]])[] = [
  ['an empty file', '', 'a.yaml:1:1: holds no configuration; write at least apiVersion and kind'],
  ['only comments', '# nothing\n', 'a.yaml:1:1: holds no configuration; write at least apiVersion and kind'],
  ['a list at the top', '# x\n- a\n', 'a.yaml:2:1: expected a mapping at the top; write "key: value" lines'],
  ['a word at the top', 'edgemesh\n', 'a.yaml:1:1: expected a mapping at the top; write "key: value" lines'],
  [
    'two documents',
    'kind: EdgeMeshAgent\n---\nkind: EdgeMeshAgent\n',
    'a.yaml:2:1: holds more than one YAML document; keep one document and remove the "---" line and what belongs to the others',
  ],
  [
    'a key written twice',
    'modules:\n  edgeDNS: {}\n  edgeDNS: {}\n',
    'a.yaml:3:3: is not valid YAML: Map keys must be unique; keep one of the two',
  ],
  [
    'a tab',
    'modules:\n\tedgeDNS: {}\n',
    'a.yaml:2:1: is not valid YAML: Tabs are not allowed as indentation; indent with spaces',
  ],
  [
    'a bracket that is not closed',
    'modules: {\n',
    'a.yaml:2:1: is not valid YAML: Flow map in block collection must be sufficiently indented and end with a }; correct the indentation, or close the bracket before',
  ],
  ['a tag', 'nodeName: !secret x\n', 'a.yaml:1:11: is not valid YAML: Unresolved tag: !secret; remove the tag'],
  [
    'braces of a template that was not filled in',
    'nodeName: {{ name }}\n',
    'a.yaml:1:12: is not valid YAML: With stringKeys, all keys must be strings; put the text in quotes',
  ],
  [
    'an alias without its anchor',
    'nodeName: *name\n',
    'a.yaml:1:1: is not valid YAML: ReferenceError: Unresolved alias (the anchor must be set before the alias): name; write it without aliases',
  ],
  [
    'a value that contains itself',
    'modules: &m\n  edgeDNS: *m\n',
    'a.yaml:1:1: is not valid YAML: it is nested too deeply or contains itself; write it without aliases',
  ],
]

suite('a file that is no single YAML mapping is named with its place:', () => {
  for (const [name, text, ...expected] of yamlCases) {
    test(name, () => assert.deepEqual(complaintsOf(text), expected))
  }
})

suite('a document of another kind is one problem:', () => {
  test("the gateway's document given to the agent, by its kind", () => {
    assert.deepEqual(complaintsOf('# x\nkind: EdgeMeshGateway\nmodules:\n  edgeGateway: {}\n'), [
      'a.yaml:2:1: kind: this is the configuration of edgemesh gateway, not of edgemesh agent; give it to edgemesh gateway, or write kind: EdgeMeshAgent',
    ])
  })

  test("the server's document given to the agent, by its apiVersion", () => {
    assert.deepEqual(complaintsOf('apiVersion: server.edgemesh.config.kubeedge.io/v1alpha1\n'), [
      'a.yaml:1:1: apiVersion: this is the configuration of edgemesh server, not of edgemesh agent; give it to edgemesh server, or write apiVersion: agent.edgemesh.config.kubeedge.io/v1alpha1',
    ])
  })

  test('the ConfigMap instead of what is in it', () => {
    assert.deepEqual(complaintsOf('apiVersion: v1\nkind: ConfigMap\ndata: {}\n'), [
      'a.yaml:2:1: kind: expected one of EdgeMeshAgent, EdgeMeshServer, EdgeMeshGateway, got "ConfigMap"; give the text below its data instead',
    ])
  })

  test('another version of the document', () => {
    assert.deepEqual(complaintsOf('apiVersion: agent.edgemesh.config.kubeedge.io/v1\n'), [
      'a.yaml:1:1: apiVersion: expected "agent.edgemesh.config.kubeedge.io/v1alpha1", got "agent.edgemesh.config.kubeedge.io/v1"; write agent.edgemesh.config.kubeedge.io/v1alpha1',
    ])
  })
})

suite('a valid document', () => {
  test('has every default, and what is written', () => {
    const { config } = parseConfig('agent', 'modules:\n  edgeTunnel: { enable: true }\n', 'a.yaml', env)
    assert.equal(config.modules.edgeTunnel.enable, true)
    assert.equal(config.modules.edgeTunnel.listenPort, 20006)
    assert.equal(config.commonConfig.bridgeDeviceIP, '169.254.96.16')
    assert.equal(config.stateDir, '/var/lib/edgemesh/agent')
  })

  test('has the default ports of its role', () => {
    assert.equal(parseConfig('server', '{}', 'a.yaml', env).config.modules.edgeTunnel.listenPort, 20004)
    assert.equal(parseConfig('gateway', '{}', 'a.yaml', env).config.modules.edgeTunnel.listenPort, 20007)
    assert.equal(parseConfig('server', '{}', 'a.yaml', env).config.modules.edgeTunnel.enable, true)
  })

  test('takes a key without a value as not written', () => {
    const { config } = parseConfig('agent', 'modules:\n  edgeTunnel:\n    relayNodes:\n', 'a.yaml', env)
    assert.deepEqual(config.modules.edgeTunnel.relayNodes, [])
  })

  test('takes every form of a server', () => {
    const peer = '12D3KooWB5qVCMrMNLpBDfMu6o4dy6ci2UqDVsFVomcd2PfYVzfW'
    const servers = ['mesh.example.org', '192.0.2.1:20004', `mesh:1/p2p/${peer}`, `[2001:db8::1]:65535/p2p/${peer}`]
    const text = JSON.stringify({ modules: { edgeTunnel: { servers } } })
    assert.deepEqual(parseConfig('agent', text, 'a.yaml', env).config.modules.edgeTunnel.servers, servers)
  })

  test('takes every form of a resolver', () => {
    const upstreamServers = ['192.0.2.53', '192.0.2.53:5353', '2001:db8::53', '[2001:db8::53]:53']
    const text = JSON.stringify({ modules: { edgeDNS: { upstreamServers } } })
    assert.deepEqual(parseConfig('agent', text, 'a.yaml', env).config.modules.edgeDNS.upstreamServers, upstreamServers)
  })

  test('is frozen to its leaves', () => {
    const { config } = parseConfig('agent', 'modules: { edgeTunnel: { servers: [a.example] } }', 'a.yaml', env)
    assert.throws(() => Object.assign(config.modules.edgeDNS, { listenPort: 54 }), TypeError)
    assert.throws(() => Object.assign(config.modules.edgeTunnel.servers, ['b.example']), TypeError)
  })
})

suite('the node name is', () => {
  test('the one written', () => {
    assert.equal(parseConfig('agent', 'nodeName: edge-b1', 'a.yaml', env).config.nodeName, 'edge-b1')
  })

  test('else that of the environment', () => {
    assert.equal(parseConfig('agent', '{}', 'a.yaml', env).config.nodeName, 'edge-a1')
    assert.equal(parseConfig('agent', 'nodeName: ""', 'a.yaml', env).config.nodeName, 'edge-a1')
  })

  test('else the host name in lower case', () => {
    const name = hostname().toLowerCase()
    assert.match(name, /^[-a-z0-9.]+$/, 'this test needs a host name that is a node name')
    assert.equal(parseConfig('agent', '{}', 'a.yaml', { NODE_NAME: '' }).config.nodeName, name)
  })

  test('refused when the environment says something impossible', () => {
    assert.deepEqual(complaintsOf('{}', 'agent', { NODE_NAME: 'edge a1' }), [
      'a.yaml:1:1: nodeName: env NODE_NAME is no node name: "edge a1"; set nodeName to lower-case letters, digits, "-" and "."',
    ])
  })
})

suite('a file', () => {
  let folder = ''
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'edgemesh-config-'))
    chmodSync(folder, 0o755)
  })
  afterEach(() => rmSync(folder, { recursive: true }))

  function complaintOf(file: string): string {
    try {
      loadConfig('agent', file, env)
      return ''
    } catch (error) {
      assert.ok(error instanceof ConfigError)
      assert.equal(error.exitCode, 78)
      assert.equal(error.code, 'EDGEMESH_CONFIG')
      return error.message.replaceAll(folder, 'DIR')
    }
  }

  function write(name: string, content: string | Uint8Array): string {
    writeFileSync(join(folder, name), content)
    return join(folder, name)
  }

  test('is read and checked', () => {
    const file = write('a.yaml', 'logLevel: debug\n')
    assert.equal(loadConfig('agent', file, env).logLevel, 'debug')
  })

  test('that is missing is named with a remedy', () => {
    assert.equal(complaintOf(join(folder, 'no.yaml')), 'DIR/no.yaml: does not exist; check the path given to --config')
  })

  test('that is missing in the default place is named with how to make one', () => {
    const file = defaultConfigFileOf('gateway')
    assert.equal(file, '/etc/edgemesh/config/edgemesh-gateway.yaml')
    assert.throws(() => loadConfig('gateway', file, env), {
      message:
        '/etc/edgemesh/config/edgemesh-gateway.yaml: does not exist; write one (edgemesh gateway --minconfig prints a start), or name another with --config FILE',
    })
  })

  test('that is a directory', () => {
    assert.equal(complaintOf(folder), 'DIR: is a directory; name a file in it')
  })

  test('that may not be read', () => {
    const file = write('secret.yaml', '{}')
    chmodSync(file, 0)
    const isRoot = process.geteuid?.() === 0
    if (isRoot) process.seteuid?.(65534)
    try {
      assert.equal(
        complaintOf(file),
        'DIR/secret.yaml: cannot be read: permission denied; run as root, or give this user the right to read it',
      )
    } finally {
      if (isRoot) process.seteuid?.(0)
    }
  })

  test('that is no text', () => {
    const file = write('latin1.yaml', new Uint8Array([0x6b, 0x3a, 0x20, 0xe4]))
    assert.equal(complaintOf(file), 'DIR/latin1.yaml: is not UTF-8 text; save it as UTF-8')
  })

  test('that is far too large', () => {
    const file = write('big.yaml', '#'.repeat(1024 * 1024 + 1))
    assert.equal(complaintOf(file), 'DIR/big.yaml: is larger than 1 MiB; name a configuration file')
  })

  test('tells its role by kind, by apiVersion or by name', () => {
    assert.equal(roleOfFile(write('x.yaml', 'kind: EdgeMeshServer')), 'server')
    assert.equal(roleOfFile(write('y.yaml', 'apiVersion: gateway.edgemesh.config.kubeedge.io/v1alpha1')), 'gateway')
    assert.equal(roleOfFile(write('edgemesh-agent.yaml', 'modules: {}')), 'agent')
  })

  test('tells where a running instance is, also when it has mistakes', () => {
    const runtimeDirIn = (text: string) => runtimeDirOf('agent', write('running.yaml', text), env)
    assert.equal(runtimeDirIn('runtimeDir: /run/a'), '/run/a')
    assert.equal(runtimeDirIn('runtimeDir: /run/a\nlogLevel: loud\nunknown: 1'), '/run/a')
    assert.equal(runtimeDirIn('logLevel: loud'), '/run/edgemesh/agent')
    assert.equal(runtimeDirIn('runtimeDir: 5'), '/run/edgemesh/agent')
    assert.throws(() => runtimeDirIn('runtimeDir: [/run/a'), /is not valid YAML/)
    assert.throws(() => runtimeDirIn('kind: EdgeMeshServer\nlogLevel: loud'), /not of edgemesh agent/)
    assert.throws(() => runtimeDirOf('agent', join(folder, 'absent.yaml'), env), /does not exist/)
  })

  test('that does not tell its role', () => {
    const file = write('x.yaml', 'modules: {}')
    assert.throws(() => roleOfFile(file), {
      message: `${file}:1:1: kind: is required to tell which command the file is for; write kind: EdgeMeshAgent or EdgeMeshServer or EdgeMeshGateway, or use --role`,
    })
  })
})
