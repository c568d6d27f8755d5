import type { Role } from '../../config/index.ts'
import { nameOf } from './common.ts'
import { type KubeObject, labelsOf, type ManifestSettings } from './manifest.ts'

const group = 'rbac.authorization.k8s.io'

/** One entry of a role's `rules`. */
export interface AccessRule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames?: readonly string[]
  readonly verbs: readonly string[]
}

/** What the account of a role may do in all namespaces, and its binding. */
export function clusterAccessOf(
  role: Role,
  settings: ManifestSettings,
  rules: readonly AccessRule[],
): readonly [role: KubeObject, binding: KubeObject] {
  return accessOf(role, settings, { metadata: { name: nameOf(role) }, rules })
}

/** What it may do in one namespace as well, under a name of its own. */
export function namespaceAccessOf(
  role: Role,
  settings: ManifestSettings,
  {
    name,
    namespace,
    rules,
  }: { readonly name: string; readonly namespace: string; readonly rules: readonly AccessRule[] },
): readonly [role: KubeObject, binding: KubeObject] {
  return accessOf(role, settings, { metadata: { name, namespace }, rules })
}

function accessOf(
  role: Role,
  settings: ManifestSettings,
  granted: {
    readonly metadata: { readonly name: string; readonly namespace?: string }
    readonly rules: readonly AccessRule[]
  },
): readonly [KubeObject, KubeObject] {
  const account = nameOf(role)
  const metadata = { ...granted.metadata, labels: labelsOf(account) }
  const kind = granted.metadata.namespace === undefined ? 'ClusterRole' : 'Role'
  const apiVersion = `${group}/v1`
  return [
    { apiVersion, kind, metadata, rules: granted.rules },
    {
      apiVersion,
      kind: `${kind}Binding`,
      metadata,
      roleRef: { apiGroup: group, kind, name: metadata.name },
      subjects: [{ kind: 'ServiceAccount', name: account, namespace: settings.namespace }],
    },
  ]
}
