import { headOf } from '../../config/index.ts'
import { accountOf, configMapOf, nameOf, podTemplateOf, pskPath } from './common.ts'
import { type KubeObject, labelsOf, type ManifestEntry, type ManifestSettings } from './manifest.ts'

const name = nameOf('gateway')
const rbac = 'rbac.authorization.k8s.io'
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
  const [firstRole, ...moreRoles] = roleObjectsOf(settings, secrets)
  return [
    { object: accountOf('gateway', settings) },
    {
      comment:
        'The gateway reads, no Secret but those granted below, and writes nothing but what is wrong with an object.',
      object: clusterRoleOf(),
    },
    { object: bindingOf('ClusterRole', name, settings) },
    ...(firstRole === undefined ? [] : [{ comment: 'The certificates that Gateways name.', object: firstRole }]),
    ...moreRoles.map((object) => ({ object })),
    { comment: 'All keys: docs/reference/config.md.', object: configMap },
    {
      comment: `Runs on the node where clients come in:  kubectl label node NODE ${gatewayNodeLabel}=`,
      object: deploymentOf(settings, configMap),
    },
  ]
}

function clusterRoleOf(): KubeObject {
  return { apiVersion: `${rbac}/v1`, kind: 'ClusterRole', metadata: { name, labels: labelsOf(name) }, rules }
}

/** A Role and its binding in each namespace that has such Secrets. */
function roleObjectsOf(settings: ManifestSettings, secrets: readonly SecretReference[]): KubeObject[] {
  const namespaces = [...new Set(secrets.map(({ namespace }) => namespace))].sort()
  return namespaces.flatMap((namespace) => {
    const resourceNames = secrets.filter((secret) => secret.namespace === namespace).map((secret) => secret.name)
    const metadata = { name: `${name}-certificates`, namespace, labels: labelsOf(name) }
    const rule = { apiGroups: [''], resources: ['secrets'], resourceNames, verbs: read }
    return [
      { apiVersion: `${rbac}/v1`, kind: 'Role', metadata, rules: [rule] },
      bindingOf('Role', metadata.name, settings, namespace),
    ]
  })
}

function bindingOf(
  kind: 'ClusterRole' | 'Role',
  role: string,
  settings: ManifestSettings,
  namespace?: string,
): KubeObject {
  return {
    apiVersion: `${rbac}/v1`,
    kind: `${kind}Binding`,
    metadata: { name: role, ...(namespace !== undefined && { namespace }), labels: labelsOf(name) },
    roleRef: { apiGroup: rbac, kind, name: role },
    subjects: [{ kind: 'ServiceAccount', name, namespace: settings.namespace }],
  }
}

function deploymentOf(settings: ManifestSettings, configMap: KubeObject): KubeObject {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: settings.namespace, labels: labelsOf(name) },
    spec: {
      replicas: 1,
      // Two of them cannot listen on one port of one node.
      strategy: { type: 'Recreate' },
      selector: { matchLabels: labelsOf(name) },
      template: podTemplateOf('gateway', settings, {
        configMap,
        env: [{ name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }],
        // Gateways may ask for port 80 or 443.
        capabilities: ['NET_BIND_SERVICE'],
        ports: [{ name: 'tunnel', port: 20007, protocol: 'TCP' }],
        memory: { request: '128Mi', limit: '512Mi' },
        spec: {
          nodeSelector: { 'kubernetes.io/os': 'linux', [gatewayNodeLabel]: '' },
          tolerations: [
            { key: 'node-role.kubernetes.io/edge', operator: 'Exists' },
            { key: 'node-role.kubernetes.io/control-plane', operator: 'Exists' },
            { key: 'node-role.kubernetes.io/master', operator: 'Exists' },
          ],
        },
      }),
    },
  }
}
