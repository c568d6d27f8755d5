import type { KubeObjects, ObjectKind } from '../../catalog/index.ts'
import { parseDestinationRule } from '../objects/destination-rule.ts'
import { parseEndpointSlice } from '../objects/endpoint-slice.ts'
import { parseEndpoints } from '../objects/endpoints.ts'
import { parseGateway } from '../objects/gateway.ts'
import { parseNode } from '../objects/node.ts'
import type { Note } from '../objects/note.ts'
import { parsePod } from '../objects/pod.ts'
import { parseSecret } from '../objects/secret.ts'
import { parseService } from '../objects/service.ts'
import { parseVirtualService } from '../objects/virtual-service.ts'

/** One resource of the API, and how its objects become ours; one object may become several or none. */
export interface ApiResource<K extends ObjectKind> {
  readonly apiVersion: string
  readonly plural: string
  /** Throws an `ObjectParseError`; notes what is left out of an object that is used. */
  readonly parse: (value: unknown, note?: Note) => readonly KubeObjects[K][]
}

/** A kind of objects that a source delivers, and the resources that can give them. */
export interface WatchedKind<K extends ObjectKind> {
  readonly kind: K
  /** Best first; the first one that the origin serves is used. */
  readonly resources: readonly [ApiResource<K>, ...ApiResource<K>[]]
  /** What follows when the origin does not serve the kind, or not to us: nothing works, there are none, who knows. */
  readonly whenNotServed: 'error' | 'none' | 'unknown'
  /** Absent where all objects are followed. */
  readonly choice?: KindChoice
}

/** Which objects of a kind are followed, where not all are. */
export type KindChoice = { [D in ObjectKind]: KindChoiceBy<D> }[ObjectKind]

/** A choice that objects of another kind make. */
export interface KindChoiceBy<D extends ObjectKind> {
  readonly dependsOn: D
  /** What one of those objects asks for, in the words of `selectionsFor`. */
  readonly wishesOf: (object: KubeObjects[D]) => readonly string[]
  /** What is followed when these are the wishes of all of those objects. */
  readonly selectionsFor: (wishes: ReadonlySet<string>, nodeName: string) => readonly Selection[]
}

/** A part of a resource's objects: those of a namespace, those with a field; all when it says neither. */
export interface Selection {
  readonly namespace?: string
  /** Such as `spec.nodeName=edge-a`. */
  readonly fieldSelector?: string
}

/** How the objects of a resource are asked for. */
export interface ResourceAddress {
  readonly path: string
  readonly query: Readonly<Record<string, string>>
}

function parseSlice(value: unknown, note?: Note): KubeObjects['endpointSlices'][] {
  const slice = parseEndpointSlice(value, note)
  return slice === undefined ? [] : [slice]
}

/** Their fields in use mean the same in all versions. */
function istioVersionsOf<K extends ObjectKind>(
  plural: string,
  parse: ApiResource<K>['parse'],
): WatchedKind<K>['resources'] {
  const of = (version: string) => ({ apiVersion: `networking.istio.io/${version}`, plural, parse })
  return [of('v1'), of('v1beta1'), of('v1alpha3')]
}

/** core/v1 Services. */
export const watchedServices: WatchedKind<'services'> = {
  kind: 'services',
  resources: [{ apiVersion: 'v1', plural: 'services', parse: (value, note) => [parseService(value, note)] }],
  whenNotServed: 'error',
}

/** EndpointSlices, or Endpoints from clusters and roles that are older than they are. */
export const watchedEndpointSlices: WatchedKind<'endpointSlices'> = {
  kind: 'endpointSlices',
  resources: [
    { apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', parse: parseSlice },
    { apiVersion: 'discovery.k8s.io/v1beta1', plural: 'endpointslices', parse: parseSlice },
    { apiVersion: 'v1', plural: 'endpoints', parse: parseEndpoints },
  ],
  whenNotServed: 'error',
}

/** core/v1 Nodes, which the Go system's role does not let it read. */
export const watchedNodes: WatchedKind<'nodes'> = {
  kind: 'nodes',
  resources: [{ apiVersion: 'v1', plural: 'nodes', parse: (value) => [parseNode(value)] }],
  whenNotServed: 'none',
}

/** networking.istio.io DestinationRules, where that API is installed. */
export const watchedDestinationRules: WatchedKind<'destinationRules'> = {
  kind: 'destinationRules',
  resources: istioVersionsOf('destinationrules', (value, note) => [parseDestinationRule(value, note)]),
  whenNotServed: 'none',
}

/** core/v1 Pods: of all nodes only while a rule tells Pods apart, since a cluster has very many. */
export const watchedPods: WatchedKind<'pods'> = {
  kind: 'pods',
  resources: [{ apiVersion: 'v1', plural: 'pods', parse: (value, note) => [parsePod(value, note)] }],
  whenNotServed: 'unknown',
  choice: {
    dependsOn: 'destinationRules',
    wishesOf: ({ subsets }) => (subsets.length === 0 ? [] : ['labels']),
    selectionsFor: (wishes, nodeName) => [wishes.size > 0 ? {} : { fieldSelector: `spec.nodeName=${nodeName}` }],
  },
}

/** networking.istio.io Gateways, where that API is installed. */
export const watchedGateways: WatchedKind<'gateways'> = {
  kind: 'gateways',
  resources: istioVersionsOf('gateways', (value) => [parseGateway(value)]),
  whenNotServed: 'none',
}

/** networking.istio.io VirtualServices, where that API is installed. */
export const watchedVirtualServices: WatchedKind<'virtualServices'> = {
  kind: 'virtualServices',
  resources: istioVersionsOf('virtualservices', (value) => [parseVirtualService(value)]),
  whenNotServed: 'none',
}

/** core/v1 Secrets: each that a Gateway names is asked for by its name, and no other is ever seen. */
export const watchedSecrets: WatchedKind<'secrets'> = {
  kind: 'secrets',
  resources: [{ apiVersion: 'v1', plural: 'secrets', parse: (value) => [parseSecret(value)] }],
  whenNotServed: 'unknown',
  choice: {
    dependsOn: 'gateways',
    wishesOf: ({ namespace, servers }) =>
      servers.flatMap(({ tls }) => (tls?.mode === 'terminate' ? secretKeysOf(namespace, tls.credentialName) : [])),
    selectionsFor: (wishes) =>
      [...wishes].map((wish) => {
        const [namespace = '', name = ''] = wish.split('/')
        return { namespace, fieldSelector: `metadata.name=${name}` }
      }),
  },
}

/** A CA for client certificates may be in a Secret of its own, which has the name of the other with a suffix. */
function secretKeysOf(namespace: string, credentialName: string): readonly string[] {
  return [`${namespace}/${credentialName}`, `${namespace}/${credentialName}-cacert`]
}

/** How each kind is followed. */
export const watchedKinds: { readonly [K in ObjectKind]: WatchedKind<K> } = {
  services: watchedServices,
  endpointSlices: watchedEndpointSlices,
  nodes: watchedNodes,
  destinationRules: watchedDestinationRules,
  pods: watchedPods,
  gateways: watchedGateways,
  virtualServices: watchedVirtualServices,
  secrets: watchedSecrets,
}

/** Where a resource's objects are, or a part of them. */
export function addressOf(
  { apiVersion, plural }: Pick<ApiResource<ObjectKind>, 'apiVersion' | 'plural'>,
  { namespace, fieldSelector }: Selection = {},
): ResourceAddress {
  const group = `${apiVersion.includes('/') ? '/apis' : '/api'}/${apiVersion}`
  return {
    path: `${group}${namespace === undefined ? '' : `/namespaces/${namespace}`}/${plural}`,
    query: fieldSelector === undefined ? {} : { fieldSelector },
  }
}
