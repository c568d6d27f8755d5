import { headOf } from '../../config/index.ts'
import { clusterAccessOf, namespaceAccessOf } from './access.ts'
import { accountOf, configMapOf, deploymentOf, nameOf, nodeNameVariable, pskPath, tolerationOf } from './common.ts'
import type { KubeObject, ManifestEntry, ManifestSettings } from './manifest.ts'

const name = nameOf('gateway')
const read = ['list', 'watch']

/** Names the one node that runs the gateway; it is where clients from outside come in. */
export const gatewayNodeLabel = 'edgemesh.kubeedge.io/gateway'

/** A Secret of type kubernetes.io/tls that a Gateway names. */
export interface SecretReference {
  readonly namespace: string
  readonly name: string
}

/** What the gateway may do in all namespaces. Secrets are granted one by one. */
const rules = [
  { apiGroups: [''], resources: ['services', 'endpoints', 'nodes', 'pods'], verbs: read },
  { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: read },
  {
    apiGroups: ['networking.istio.io'],
    resources: ['destinationrules', 'gateways', 'virtualservices'],
    verbs: read,
  },
  // What is wrong with an object is written into its status, which changes nothing but what people read.
  {
    apiGroups: ['networking.istio.io'],
    resources: ['gateways/status', 'virtualservices/status'],
    verbs: ['get', 'patch'],
  },
]

/** What runs `edgemesh gateway` on one node, with the right to read these Secrets. */
export function gatewayEntries(settings: ManifestSettings, secrets: readonly SecretReference[]): ManifestEntry[] {
  const edgeTunnel = { enable: true, servers: settings.servers, psk: { path: pskPath } }
  const document = { ...headOf.gateway, modules: { edgeGateway: { enable: true }, edgeTunnel } }
  const configMap = configMapOf('gateway', document, settings)
  const [clusterRole, binding] = clusterAccessOf('gateway', settings, rules)
  const [firstRole, ...moreRoles] = certificateAccessOf(settings, secrets)
  return [
    { object: accountOf('gateway', settings) },
    {
      comment:
        'The gateway reads, no Secret but those granted below, and writes nothing but what is wrong with an object.',
      object: clusterRole,
    },
    { object: binding },
    ...(firstRole === undefined ? [] : [{ comment: 'The certificates that Gateways name.', object: firstRole }]),
    ...moreRoles.map((object) => ({ object })),
    { comment: 'All keys: docs/reference/config.md.', object: configMap },
    {
      comment: `Runs on the node where clients come in:  kubectl label node NODE ${gatewayNodeLabel}=`,
      object: workloadOf(settings, configMap),
    },
  ]
}

/** A Role and its binding in each namespace that has such Secrets. */
function certificateAccessOf(settings: ManifestSettings, secrets: readonly SecretReference[]): KubeObject[] {
  const namespaces = [...new Set(secrets.map(({ namespace }) => namespace))].sort()
  return namespaces.flatMap((namespace) => {
    const resourceNames = secrets.filter((secret) => secret.namespace === namespace).map((secret) => secret.name)
    const certificates = [{ apiGroups: [''], resources: ['secrets'], resourceNames, verbs: read }]
    return namespaceAccessOf('gateway', settings, { name: `${name}-certificates`, namespace, rules: certificates })
  })
}

function workloadOf(settings: ManifestSettings, configMap: KubeObject): KubeObject {
  return deploymentOf('gateway', settings, {
    nodeLabel: gatewayNodeLabel,
    configMap,
    env: [nodeNameVariable],
    // Gateways may ask for port 80 or 443.
    capabilities: ['NET_BIND_SERVICE'],
    ports: [{ name: 'tunnel', port: 20007, protocol: 'TCP' }],
    memory: { request: '128Mi', limit: '512Mi' },
    spec: { tolerations: [tolerationOf('edge'), tolerationOf('control-plane'), tolerationOf('master')] },
  })
}
