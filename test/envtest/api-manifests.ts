import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ManifestStore } from '../lab/index.ts'
import { agentUser, type ControlPlane } from './control-plane.ts'
import { createObject, type KubeObject, pathOf, readObjects } from './kube-objects.ts'

const namespacePath = '/api/v1/namespaces/default'

/**
 * Puts the manifests of a lab into a real API server, and lets agents read it as a user with these rights. Takes the
 * control plane over: it ends with the lab.
 */
export async function storeInApi(plane: ControlPlane, rules: readonly object[]): Promise<ManifestStore> {
  const files = new Map<string, readonly KubeObject[]>()
  await freeFirstClusterIp(plane)
  await grant(plane, rules)
  const tokenFile = join(plane.directory, 'agent-token')
  await writeFile(tokenFile, agentUser.token)
  const kubeConfig = await plane.writeKubeconfig('agent', { tokenFile })
  return {
    kubeAPIConfig: { kubeConfig },
    async write(name, yamlText) {
      const before = files.get(name) ?? []
      const objects = readObjects(yamlText).map(asServed)
      files.set(name, objects)
      for (const object of objects) await apply(plane, object, before)
      const kept = new Set(objects.map(pathOf))
      for (const object of before) if (!kept.has(pathOf(object))) await plane.call('DELETE', pathOf(object))
    },
    async remove(name) {
      for (const object of files.get(name) ?? []) await plane.call('DELETE', pathOf(object))
      files.delete(name)
    },
    [Symbol.asyncDispose]: () => plane[Symbol.asyncDispose](),
  }
}

async function apply(plane: ControlPlane, object: KubeObject, before: readonly KubeObject[]): Promise<void> {
  if (before.some((known) => pathOf(known) === pathOf(object))) await plane.call('PATCH', pathOf(object), object)
  else await createObject(plane, object)
}

/** Kubernetes 1.20 has EndpointSlices of an older version, whose endpoints name their node elsewhere. */
function asServed(object: KubeObject): KubeObject {
  if (object.kind !== 'EndpointSlice') return object
  const endpoints = (object['endpoints'] as readonly { readonly nodeName?: string }[]).map(
    ({ nodeName, ...endpoint }) => ({
      ...endpoint,
      ...(nodeName !== undefined && { topology: { 'kubernetes.io/hostname': nodeName } }),
    }),
  )
  return { ...object, apiVersion: 'discovery.k8s.io/v1beta1', endpoints }
}

/** Tests use the first address of the range, which Kubernetes takes for itself. It keeps a Service that has another. */
async function freeFirstClusterIp(plane: ControlPlane): Promise<void> {
  const ports = [{ name: 'https', port: 443, protocol: 'TCP', targetPort: 6443 }]
  const metadata = { name: 'kubernetes', labels: { component: 'apiserver', provider: 'kubernetes' } }
  for (let attempt = 0; ; attempt++) {
    // A server that has just started may not have made it yet.
    await plane.call('DELETE', `${namespacePath}/services/kubernetes`).catch(() => {})
    try {
      await plane.call('POST', `${namespacePath}/services`, { metadata, spec: { clusterIP: '10.96.255.1', ports } })
      return
    } catch (error) {
      // It looks every ten seconds whether its Service is there.
      if (attempt === 3) throw error
    }
  }
}

async function grant(plane: ControlPlane, rules: readonly object[]): Promise<void> {
  const rbac = '/apis/rbac.authorization.k8s.io/v1'
  const metadata = { name: 'agents-of-the-lab' }
  const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: metadata.name }
  const subjects = [{ kind: 'User', apiGroup: 'rbac.authorization.k8s.io', name: agentUser.name }]
  await plane.call('POST', `${rbac}/clusterroles`, { metadata, rules })
  await plane.call('POST', `${rbac}/clusterrolebindings`, { metadata, roleRef, subjects })
}
