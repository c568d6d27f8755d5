import type { KubeObjects, ObjectKind } from '../../catalog/index.ts'
import { parseEndpointSlice } from '../objects/endpoint-slice.ts'
import { parseEndpoints } from '../objects/endpoints.ts'
import { parseNode } from '../objects/node.ts'
import { parseService } from '../objects/service.ts'

/** One resource of the API, and how its objects become ours; one object may become several or none. */
export interface ApiResource<K extends ObjectKind> {
  readonly apiVersion: string
  readonly plural: string
  /** Throws an `ObjectParseError`. */
  readonly parse: (value: unknown) => readonly KubeObjects[K][]
}

/** A kind of objects that a source delivers, and the resources that can give them. */
export interface WatchedKind<K extends ObjectKind> {
  readonly kind: K
  /** Best first; the first one that the origin serves is used. */
  readonly resources: readonly [ApiResource<K>, ...ApiResource<K>[]]
  /** What works without: when the origin does not serve it, or not to us, there are none. */
  readonly isOptional: boolean
}

function parseSlice(value: unknown): KubeObjects['endpointSlices'][] {
  const slice = parseEndpointSlice(value)
  return slice === undefined ? [] : [slice]
}

/** core/v1 Services. */
export const watchedServices: WatchedKind<'services'> = {
  kind: 'services',
  resources: [{ apiVersion: 'v1', plural: 'services', parse: (value) => [parseService(value)] }],
  isOptional: false,
}

/** EndpointSlices, or Endpoints from clusters and roles that are older than they are. */
export const watchedEndpointSlices: WatchedKind<'endpointSlices'> = {
  kind: 'endpointSlices',
  resources: [
    { apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', parse: parseSlice },
    { apiVersion: 'discovery.k8s.io/v1beta1', plural: 'endpointslices', parse: parseSlice },
    { apiVersion: 'v1', plural: 'endpoints', parse: parseEndpoints },
  ],
  isOptional: false,
}

/** core/v1 Nodes, which the Go system's role does not let it read. */
export const watchedNodes: WatchedKind<'nodes'> = {
  kind: 'nodes',
  resources: [{ apiVersion: 'v1', plural: 'nodes', parse: (value) => [parseNode(value)] }],
  isOptional: true,
}

/** The path of a resource's objects in all namespaces. */
export function pathOf({ apiVersion, plural }: Pick<ApiResource<ObjectKind>, 'apiVersion' | 'plural'>): string {
  return `${apiVersion.includes('/') ? '/apis' : '/api'}/${apiVersion}/${plural}`
}
