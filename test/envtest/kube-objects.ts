import { parseAllDocuments } from 'yaml'
import type { ControlPlane } from './control-plane.ts'

/** A Kubernetes object as a manifest has it. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string }
  readonly [field: string]: unknown
}

const plurals: Readonly<Record<string, string>> = {
  Namespace: 'namespaces',
  Secret: 'secrets',
  ServiceAccount: 'serviceaccounts',
  ConfigMap: 'configmaps',
  Service: 'services',
  Pod: 'pods',
  Deployment: 'deployments',
  Endpoints: 'endpoints',
  EndpointSlice: 'endpointslices',
  Node: 'nodes',
  DaemonSet: 'daemonsets',
  Role: 'roles',
  RoleBinding: 'rolebindings',
  ClusterRole: 'clusterroles',
  ClusterRoleBinding: 'clusterrolebindings',
  CustomResourceDefinition: 'customresourcedefinitions',
  DestinationRule: 'destinationrules',
  Gateway: 'gateways',
  VirtualService: 'virtualservices',
}

/** The objects of a manifest, in its order. */
export function readObjects(text: string): KubeObject[] {
  return parseAllDocuments(text).map((document): KubeObject => {
    if (document.errors.length > 0) throw document.errors[0]
    return document.toJS()
  })
}

/** Where objects of this kind are made. */
export function collectionOf({ apiVersion, kind, metadata }: KubeObject): string {
  const plural = plurals[kind]
  if (plural === undefined) throw new Error(`The tests do not know where ${kind} belongs; add it to the table`)
  const group = `${apiVersion.includes('/') ? '/apis' : '/api'}/${apiVersion}`
  return metadata.namespace === undefined ? `${group}/${plural}` : `${group}/namespaces/${metadata.namespace}/${plural}`
}

/** Where the object is. */
export function pathOf(object: KubeObject): string {
  return `${collectionOf(object)}/${object.metadata.name}`
}

/**
 * Makes the object; throws when the API server refuses it or drops a part of it, which it does silently with fields
 * that it does not know. A namespace may be there already.
 */
export async function createObject(plane: ControlPlane, object: KubeObject): Promise<void> {
  if (object.kind === 'Namespace' && (await exists(plane, object))) return
  const created = await plane.call('POST', collectionOf(object), object)
  const dropped = missingIn(created, object, '')
  if (dropped.length > 0)
    throw new Error(`${object.kind} ${object.metadata.name} came back without ${dropped.join(', ')}`)
}

/** Removes objects, but no namespaces. */
export async function deleteObjects(plane: ControlPlane, objects: readonly KubeObject[]): Promise<void> {
  for (const object of objects) {
    if (object.kind !== 'Namespace') await plane.call('DELETE', `${pathOf(object)}?gracePeriodSeconds=0`)
  }
}

async function exists(plane: ControlPlane, object: KubeObject): Promise<boolean> {
  return await plane.call('GET', pathOf(object)).then(
    () => true,
    () => false,
  )
}

/** The paths of what was sent and did not come back; nothing and an empty list are the same to the API. */
function missingIn(received: unknown, sent: unknown, path: string): string[] {
  if (typeof sent !== 'object' || sent === null) return received === sent ? [] : [`${path}=${String(sent)}`]
  const has = received ?? (Array.isArray(sent) ? [] : {})
  return Object.entries(sent).flatMap(([key, value]) =>
    missingIn(Reflect.get(Object(has), key), value, `${path}.${key}`),
  )
}
