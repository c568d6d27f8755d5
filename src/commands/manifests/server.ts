import { headOf } from '../../config/index.ts'
import { accountOf, configMapOf, deploymentOf, nameOf, pskPath, tolerationOf } from './common.ts'
import type { KubeObject, ManifestEntry, ManifestSettings } from './manifest.ts'

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
      object: workloadOf(settings, configMap, port),
    },
  ]
}

function workloadOf(settings: ManifestSettings, configMap: KubeObject, port: number): KubeObject {
  return deploymentOf('server', settings, {
    nodeLabel: serverNodeLabel,
    configMap,
    env: [],
    capabilities: port < 1024 ? ['NET_BIND_SERVICE'] : [],
    ports: [{ name: 'tunnel', port, protocol: 'TCP' }],
    memory: { request: '128Mi', limit: '1Gi' },
    spec: {
      tolerations: [tolerationOf('control-plane'), tolerationOf('master')],
      automountServiceAccountToken: false,
    },
  })
}

/** Host and port of `host[:port][/p2p/ID]`; an IPv6 host may be in brackets. */
function addressOf(server: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<name>[^:/]*))(?::(?<port>\d+))?/.exec(server)?.groups
  return { host: match?.['v6'] ?? match?.['name'] ?? '', port: Number(match?.['port'] ?? defaultPort) }
}
