import { createHash } from 'node:crypto'
import { stringify } from 'yaml'
import { defaultConfigFileOf, parseConfig, type Role } from '../../config/index.ts'
import { type KubeObject, labelsOf, type ManifestEntry, type ManifestSettings } from './manifest.ts'

const pskSecret = 'edgemesh-psk'

/** Where pods find the pre-shared key: the key `psk` of the Secret, as a file. */
export const pskPath = '/etc/edgemesh/psk/psk'

const executable = '/usr/local/bin/edgemesh'

/** What every role needs: the namespace and the pre-shared key. */
export function commonEntries({ namespace, psk }: ManifestSettings): ManifestEntry[] {
  const entries = [{ object: namespaceOf(namespace) }]
  return psk === undefined ? entries : [...entries, pskEntryOf(namespace, psk)]
}

function namespaceOf(name: string): KubeObject {
  // The agent works on the network of its node, which the stricter levels forbid.
  const labels = { 'pod-security.kubernetes.io/enforce': 'privileged' }
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } }
}

function pskEntryOf(namespace: string, psk: string): ManifestEntry {
  return {
    comment:
      'The key that admits nodes to the mesh: whoever holds it is a member. Immutable, so that applying another one\n' +
      'by mistake is refused. To change it, delete the Secret first; every node needs the new one.',
    object: {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: pskSecret, namespace, labels: { 'k8s-app': 'kubeedge' } },
      type: 'Opaque',
      immutable: true,
      data: { psk },
    },
  }
}

/** The account of a role's pods; they get its token only when they read from the API. */
export function accountOf(role: Role, { namespace }: ManifestSettings): KubeObject {
  const name = nameOf(role)
  return { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name, namespace, labels: labelsOf(name) } }
}

/** A role's configuration as a ConfigMap, and the same as text. Throws a `ConfigError` when it is not valid. */
export function configMapOf(role: Role, document: object, settings: ManifestSettings): KubeObject {
  const file = `edgemesh-${role}.yaml`
  const text = stringify(document)
  parseConfig(role, text, file, { NODE_NAME: 'any' })
  const metadata = { name: `${nameOf(role)}-cfg`, namespace: settings.namespace, labels: labelsOf(nameOf(role)) }
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata, data: { [file]: text } }
}

/** What the pods of the roles do not have in common. */
export interface PodSettings {
  readonly configMap: KubeObject
  readonly env: readonly object[]
  readonly capabilities: readonly string[]
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: 'TCP' | 'UDP' }[]
  readonly memory: { readonly request: string; readonly limit: string }
  readonly volumes?: readonly Volume[]
  /** More fields of the pod's `spec`. */
  readonly spec: Readonly<Record<string, unknown>>
}

/** A volume and where the container sees it. */
export interface Volume {
  readonly name: string
  readonly path: string
  readonly readOnly?: boolean
  readonly source: Readonly<Record<string, unknown>>
}

/** The one pod of a role, on the node that this label names: that is where its clients look for it. */
export function deploymentOf(
  role: Role,
  settings: ManifestSettings,
  { nodeLabel, ...pod }: PodSettings & { readonly nodeLabel: string },
): KubeObject {
  const name = nameOf(role)
  const nodeSelector = { ...linuxNodes, [nodeLabel]: '' }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name, namespace: settings.namespace, labels: labelsOf(name) },
    spec: {
      replicas: 1,
      // Two of them cannot listen on one port of one node.
      strategy: { type: 'Recreate' },
      selector: { matchLabels: labelsOf(name) },
      template: podTemplateOf(role, settings, { ...pod, spec: { nodeSelector, ...pod.spec } }),
    },
  }
}

/** Selects the nodes that edgemesh runs on. */
export const linuxNodes = { 'kubernetes.io/os': 'linux' } as const

/** Lets a pod run on nodes of this role, which others are kept away from. */
export const tolerationOf = (nodeRole: 'edge' | 'control-plane' | 'master') => ({
  key: `node-role.kubernetes.io/${nodeRole}`,
  operator: 'Exists',
})

/** What tells a process the name of its node. */
export const nodeNameVariable = { name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } } as const

/** The pod template of a role: on the network of its node, without privileges but those named. */
export function podTemplateOf(role: Role, settings: ManifestSettings, pod: PodSettings): object {
  const volumes = [...commonVolumesOf(role, pod.configMap), ...(pod.volumes ?? [])]
  return {
    metadata: {
      labels: labelsOf(nameOf(role)),
      // A changed configuration makes new pods.
      annotations: { 'edgemesh.kubeedge.io/config': digestOf(pod.configMap) },
    },
    spec: {
      hostNetwork: true,
      // The name servers of the node: those of the cluster may be this very agent.
      dnsPolicy: 'Default',
      ...pod.spec,
      serviceAccountName: nameOf(role),
      containers: [containerOf(role, settings, pod, volumes)],
      volumes: volumes.map(({ name, source }) => ({ name, ...source })),
    },
  }
}

function containerOf(role: Role, { image }: ManifestSettings, pod: PodSettings, volumes: readonly Volume[]): object {
  return {
    name: nameOf(role),
    image,
    command: [executable, role],
    env: pod.env,
    ports: pod.ports.map(({ name, port, protocol }) => ({ name, containerPort: port, hostPort: port, protocol })),
    // Not a liveness probe: a node under load or without the API must not lose a working agent.
    readinessProbe: {
      exec: { command: [executable, 'status', role] },
      initialDelaySeconds: 3,
      periodSeconds: 30,
      timeoutSeconds: 10,
      failureThreshold: 2,
    },
    resources: { requests: { cpu: '50m', memory: pod.memory.request }, limits: { memory: pod.memory.limit } },
    securityContext: {
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], ...(pod.capabilities.length > 0 && { add: pod.capabilities }) },
      seccompProfile: { type: 'RuntimeDefault' },
    },
    volumeMounts: volumes.map(({ name, path, readOnly }) => ({
      name,
      mountPath: path,
      ...(readOnly === true && { readOnly }),
    })),
  }
}

function commonVolumesOf(role: Role, configMap: KubeObject): Volume[] {
  const psk = { secretName: pskSecret, defaultMode: 0o400 }
  const hostPath = (path: string) => ({ hostPath: { path, type: 'DirectoryOrCreate' } })
  return [
    { name: 'config', path: folderOf(role), readOnly: true, source: { configMap: { name: configMap.metadata.name } } },
    { name: 'psk', path: '/etc/edgemesh/psk', readOnly: true, source: { secret: psk } },
    // The identity of the node, which its peers have pinned, and what it knows when the API is away.
    { name: 'state', path: '/var/lib/edgemesh', source: hostPath('/var/lib/edgemesh') },
    // The control socket, for `edgemesh status` on the node itself.
    { name: 'run', path: '/run/edgemesh', source: hostPath('/run/edgemesh') },
  ]
}

function folderOf(role: Role): string {
  return defaultConfigFileOf(role).replace(/\/[^/]*$/, '')
}

/** `edgemesh-agent`: the name of a role's account, workload and configuration. */
export function nameOf(role: Role): string {
  return `edgemesh-${role}`
}

function digestOf(configMap: KubeObject): string {
  return createHash('sha256').update(JSON.stringify(configMap['data'])).digest('hex').slice(0, 16)
}
