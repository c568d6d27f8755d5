import type {
  Backend,
  ClusterNode,
  DestinationRule,
  EndpointSlice,
  Gateway,
  ObjectKey,
  Pod,
  Protocol,
  Secret,
  Service,
  ServicePort,
  ServicePortId,
  VirtualService,
} from '../model/index.ts'
import type { ReadableMap } from '../runtime/index.ts'

/** Where a flow wants to go on a node, as the far end sees it. */
export interface Target {
  readonly protocol: Protocol
  /** Absent for endpoints outside the cluster. */
  readonly nodeName?: string | undefined
  readonly address: string
  readonly port: number
}

/** Everything known at one moment; never changes. */
export interface Snapshot {
  /** Grows by one with each snapshot of a catalog. */
  readonly sequence: number
  readonly services: ReadonlyMap<ObjectKey, Service>
  readonly nodes: ReadonlyMap<string, ClusterNode>
  readonly destinationRules: ReadonlyMap<ObjectKey, DestinationRule>
  /** The same map until one of them changes, as for the others below; all three are empty outside gateways. */
  readonly gateways: ReadonlyMap<ObjectKey, Gateway>
  readonly virtualServices: ReadonlyMap<ObjectKey, VirtualService>
  readonly secrets: ReadonlyMap<ObjectKey, Secret>
  /** The slices of a Service; those made from v1 Endpoints only when there is no other. */
  slicesOf(service: Service): readonly EndpointSlice[]
  /** What `slicesOf` and `destinationRulesOf` tell, by Service: `differencesOf` finds cheaply what is new in them. */
  readonly slicesByService: ReadableMap<{ readonly slices: readonly EndpointSlice[] }>
  readonly rulesByService: ReadableMap<readonly DestinationRule[]>
  /**
   * Who can serve the port now: ready endpoints; when none is ready, those that terminate but still serve (as
   * kube-proxy does); all of them when the Service publishes not-ready addresses. Sorted by (node, address, port),
   * each once.
   */
  backendsOf(service: Service, port: ServicePort): readonly Backend[]
  /** The Service that owns a ClusterIP. */
  serviceByClusterIP(address: string): Service | undefined
  /** The ServicePort that has this endpoint on this node, ready or not; undefined when none has. */
  servicePortOfTarget(target: Target): ServicePortId | undefined
  /**
   * The rules for a Service, those that matter most first: whose host names it and that are exported to its namespace;
   * without any, as in the Go system, the rule of its namespace that has its name; then those with a wildcard. Among
   * equals those of its own namespace come first, then by name. The same list until one of them changes.
   */
  destinationRulesOf(service: Service): readonly DestinationRule[]
  /** A Pod, if it is known: all of this node are, others only while a DestinationRule has subsets. */
  podOf(namespace: string, name: string): Pod | undefined
}

/** Gives snapshots to those who converge to them. */
export interface Catalog {
  /** The newest snapshot; empty before anything is known. */
  readonly current: Snapshot
  /** True once every kind that is waited for was listed at least once, or a stored snapshot was loaded. */
  readonly isSynced: boolean
  /** Calls back with each new snapshot, and at once with the current one; disposal ends it. */
  subscribe(onSnapshot: (snapshot: Snapshot) => void): Disposable
}
