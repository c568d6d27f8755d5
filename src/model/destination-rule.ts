/** An Istio DestinationRule with what this product uses; durations are milliseconds. */
export interface DestinationRule {
  readonly namespace: string
  readonly name: string
  /** As written: a short name, `name.namespace`, a full name or `*.domain`. */
  readonly host: string
  /** Namespaces that see the rule: `.` for its own, `*` for all; empty means all. */
  readonly exportTo: readonly string[]
  readonly trafficPolicy: TrafficPolicy
  /** Policies of single ports; each replaces the whole policy for that port, as Istio says. */
  readonly portPolicies: readonly { readonly port: number; readonly trafficPolicy: TrafficPolicy }[]
  readonly subsets: readonly Subset[]
  /** What the object asks for and this product does not do, in words for the log. */
  readonly ignored: readonly string[]
}

/** Endpoints whose Pods carry these labels. */
export interface Subset {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  /** Replaces the rule's own policy where it is given. */
  readonly trafficPolicy?: TrafficPolicy
}

/** What a DestinationRule says about traffic; absent parts mean the defaults. */
export interface TrafficPolicy {
  readonly loadBalancer?: BalancingPolicy
  /** Whether endpoints near the client are used before others; absent leaves it to the node. */
  readonly locality?: Locality
  readonly outlierDetection?: OutlierDetection
  readonly maxConnections?: number
  readonly connectTimeoutMs?: number
}

/** `nearest`: those on the client's node, then those of its LAN, then all others. */
export type Locality = 'none' | 'nearest'

/** When a backend that fails is left out for a while. */
export interface OutlierDetection {
  readonly consecutiveErrors: number
  readonly baseEjectionMs: number
  /** At most this share of the backends is left out at a time, 0..100. */
  readonly maxEjectionPercent: number
}

/** How a backend is picked. A closed union: a new kind is a compile error where kinds are told apart. */
export type BalancingPolicy =
  | { readonly kind: 'round-robin' }
  | { readonly kind: 'random' }
  | { readonly kind: 'least-request' }
  /** The address that the client asked for; a ServicePort has no other, so it is random there. */
  | { readonly kind: 'passthrough' }
  | { readonly kind: 'consistent-hash'; readonly key: HashKey; readonly ring: HashRing }

/** What of a connection or request decides. */
export type HashKey =
  /** The client's address without its port. */
  | { readonly kind: 'source-ip' }
  | { readonly kind: 'http-header'; readonly name: string }
  /** The cookie is set on the answer when the request lacks it, with `ttlMs` (0: for the session), if `ttlMs` is there. */
  | { readonly kind: 'http-cookie'; readonly name: string; readonly path?: string; readonly ttlMs?: number }
  | { readonly kind: 'query-parameter'; readonly name: string }

/** How keys are spread. Absent sizes mean the configured `partitionCount` and `replicationFactor`. */
export type HashRing =
  | { readonly kind: 'ring'; readonly minimumSize?: number }
  | { readonly kind: 'maglev'; readonly tableSize?: number }

/** True when the policy can be followed only by reading HTTP requests. */
export function readsRequests(policy: BalancingPolicy): boolean {
  return policy.kind === 'consistent-hash' && policy.key.kind !== 'source-ip'
}
