import { headOf } from '../../config/index.ts'
import { clusterAccessOf } from './access.ts'
import {
  accountOf,
  configMapOf,
  linuxNodes,
  nameOf,
  nodeNameVariable,
  podTemplateOf,
  pskPath,
  tolerationOf,
} from './common.ts'
import { type KubeObject, labelsOf, type ManifestEntry, type ManifestSettings } from './manifest.ts'

const name = nameOf('agent')

/** All that the agent reads from the API, and the least verbs that it needs. It writes nothing. */
const rules = [
  { apiGroups: [''], resources: ['services', 'endpoints', 'nodes', 'pods'], verbs: ['list', 'watch'] },
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  { apiGroups: ['networking.istio.io'], resources: ['destinationrules'], verbs: ['list', 'watch'] },
]

/** What runs `edgemesh agent` on every node. */
export function agentEntries(settings: ManifestSettings): ManifestEntry[] {
  const configMap = configMapOf('agent', agentConfigOf(settings), settings)
  const [clusterRole, binding] = clusterAccessOf('agent', settings, rules)
  return [
    { object: accountOf('agent', settings) },
    { comment: 'The agent only ever reads; Secrets are none of its business.', object: clusterRole },
    { object: binding },
    {
      comment:
        'All keys: docs/reference/config.md. Where objects come from is found out on each node: metaServer where it\n' +
        'answers, else the API server of the cluster.',
      object: configMap,
    },
    { comment: 'One agent on every node, at the edge and in the cloud.', object: daemonSetOf(settings, configMap) },
  ]
}

function agentConfigOf({ servers }: ManifestSettings): object {
  const edgeTunnel = { enable: true, servers, psk: { path: pskPath } }
  return { ...headOf.agent, modules: { edgeDNS: { enable: true }, edgeProxy: { enable: true }, edgeTunnel } }
}

function daemonSetOf(settings: ManifestSettings, configMap: KubeObject): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'DaemonSet',
    metadata: { name, namespace: settings.namespace, labels: labelsOf(name) },
    spec: {
      selector: { matchLabels: labelsOf(name) },
      // Nodes that are away count as unavailable, and must not hold up the others.
      updateStrategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '50%' } },
      template: podTemplateOf('agent', settings, {
        configMap,
        env: [nodeNameVariable, { name: 'NAMESPACE', valueFrom: { fieldRef: { fieldPath: 'metadata.namespace' } } }],
        // Rules, device and routes; raw sockets for the older iptables, where a firewall uses it; DNS on port 53.
        capabilities: ['NET_ADMIN', 'NET_RAW', 'NET_BIND_SERVICE'],
        ports: [{ name: 'tunnel', port: 20006, protocol: 'TCP' }],
        memory: { request: '128Mi', limit: '512Mi' },
        volumes: [
          // The lock that iptables shares between all its users on the node.
          {
            name: 'xtables-lock',
            path: '/run/xtables.lock',
            source: { hostPath: { path: '/run/xtables.lock', type: 'FileOrCreate' } },
          },
          // rootCA.crt, server.crt and server.key for a metaServer that asks for them.
          {
            name: 'metaserver',
            path: '/etc/edgemesh/metaserver',
            readOnly: true,
            source: { secret: { secretName: 'edgemesh-metaserver', optional: true, defaultMode: 0o400 } },
          },
        ],
        spec: {
          nodeSelector: linuxNodes,
          tolerations: [tolerationOf('edge')],
          priorityClassName: 'system-node-critical',
        },
      }),
    },
  }
}
