import { headOf } from '../../config/index.ts'
import { accountOf, configMapOf, nameOf, podTemplateOf, pskPath } from './common.ts'
import { type KubeObject, labelsOf, type ManifestEntry, type ManifestSettings } from './manifest.ts'

const name = nameOf('server')
const defaultPort = 20004

/** Names the one node that runs the server; it is where the server's public address leads. */
export const serverNodeLabel = 'edgemesh.kubeedge.io/server'

/** What runs `edgemesh server` on one public node. */
export function serverEntries(settings: ManifestSettings): ManifestEntry[] {
  const { host, port } = addressOf(settings.servers[0])
  const edgeTunnel = { enable: true, listenPort: port, advertiseAddress: [host], psk: { path: pskPath } }
  // An agent may run on the same node, and two members of a mesh need two names.
  const document = { ...headOf.server, nodeName: name, modules: { edgeTunnel } }
  const configMap = configMapOf('server', document, settings)
  return [
    {
      comment: 'The server reads nothing from the API, so its account has no role and its pod no token.',
      object: accountOf('server', settings),
    },
    { object: configMap },
    {
      comment:
        `Runs on the node that the server's address leads to:  kubectl label node NODE ${serverNodeLabel}=\n` +
        'One replica: agents pin its identity, which is kept on that node.',
      object: deploymentOf(settings, configMap, port),
    },
  ]
}

function deploymentOf(settings: ManifestSettings, configMap: KubeObject, port: number): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: settings.namespace, labels: labelsOf(name) },
    spec: {
      replicas: 1,
      // Two of them cannot listen on one port of one node.
      strategy: { type: 'Recreate' },
      selector: { matchLabels: labelsOf(name) },
      template: podTemplateOf('server', settings, {
        configMap,
        env: [],
        capabilities: port < 1024 ? ['NET_BIND_SERVICE'] : [],
        ports: [{ name: 'tunnel', port, protocol: 'TCP' }],
        memory: { request: '128Mi', limit: '1Gi' },
        spec: {
          nodeSelector: { 'kubernetes.io/os': 'linux', [serverNodeLabel]: '' },
          tolerations: [
            { key: 'node-role.kubernetes.io/control-plane', operator: 'Exists' },
            { key: 'node-role.kubernetes.io/master', operator: 'Exists' },
          ],
          automountServiceAccountToken: false,
        },
      }),
    },
  }
}

/** Host and port of `host[:port][/p2p/ID]`; an IPv6 host may be in brackets. */
function addressOf(server: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<name>[^:/]*))(?::(?<port>\d+))?/.exec(server)?.groups
  return { host: match?.['v6'] ?? match?.['name'] ?? '', port: Number(match?.['port'] ?? defaultPort) }
}
