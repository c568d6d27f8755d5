import type {
  ClusterNode,
  DestinationRule,
  EndpointSlice,
  Gateway,
  ObjectKey,
  Pod,
  Secret,
  Service,
  VirtualService,
} from '../model/index.ts'

/** The kinds of objects that sources deliver, by plural name. */
export interface KubeObjects {
  readonly services: Service
  readonly endpointSlices: EndpointSlice
  readonly nodes: ClusterNode
  readonly destinationRules: DestinationRule
  /** Those of the own node, or all while Pods are told apart by their labels. */
  readonly pods: Pod
  readonly gateways: Gateway
  readonly virtualServices: VirtualService
  /** Those that Gateways name; never remembered. */
  readonly secrets: Secret
}

/** A kind of object that sources deliver. */
export type ObjectKind = keyof KubeObjects

/**
 * Where sources put what they learn. A list ends in `replace`, a watch event in `put` or `remove`, so that a
 * folder of manifests and a list-watch speak the same language. Nodes have keys without a namespace.
 */
export interface ObjectSink {
  /** All objects of that kind, complete: what is not in the list is gone. The first call marks the kind as known. */
  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void
  put<K extends ObjectKind>(kind: K, object: KubeObjects[K]): void
  remove(kind: ObjectKind, key: ObjectKey): void
}
