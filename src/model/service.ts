/** Transport protocols that Services may use and this product carries. SCTP is refused at the door in `kube/`. */
export type Protocol = 'tcp' | 'udp'

/** `namespace/name`, the key of a namespaced Kubernetes object. */
export type ObjectKey = string

/**
 * The key of a namespaced object. Joined like all keys that are kept by the ten thousand: V8 leaves a template in its
 * pieces, which take twice the room.
 */
export function keyOf({ namespace, name }: { readonly namespace: string; readonly name: string }): ObjectKey {
  return [namespace, name].join('/')
}

/** One entry of a Service's `spec.ports`. */
export interface ServicePort {
  /** Empty when the Service has one unnamed port. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
  readonly nodePort?: number
  readonly appProtocol?: string
}

/** The fields of a core/v1 Service that this product uses. */
export interface Service {
  readonly namespace: string
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer' | 'ExternalName'
  /** Canonical IPv4 or IPv6 text; empty for headless Services and for ExternalName. */
  readonly clusterIPs: readonly string[]
  /** `spec.clusterIP: None`. */
  readonly headless: boolean
  readonly externalName?: string
  readonly ports: readonly ServicePort[]
  readonly publishNotReadyAddresses: boolean
  /** Seconds that ClientIP affinity lasts; absent when the Service asks for none. */
  readonly clientIPAffinitySeconds?: number
  /** `spec.externalIPs`; absent means none. */
  readonly externalIPs?: readonly string[]
  /** Addresses of `status.loadBalancer.ingress` whose traffic still carries them (`ipMode: VIP`); absent means none. */
  readonly loadBalancerIPs?: readonly string[]
  /** Networks that may use the load balancer addresses, as CIDR text; absent means everybody. */
  readonly loadBalancerSourceRanges?: readonly string[]
  /** Absent means `Cluster`. */
  readonly externalTrafficPolicy?: 'Cluster' | 'Local'
  /** Absent means `Cluster`. */
  readonly internalTrafficPolicy?: 'Cluster' | 'Local'
  /** Where a load balancer asks whether this node has endpoints; only with `externalTrafficPolicy: Local`. */
  readonly healthCheckNodePort?: number
  /** `spec.trafficDistribution`; values that are not known here count as absent. */
  readonly trafficDistribution?: 'PreferSameZone' | 'PreferSameNode'
}

/** Names one ServicePort in the whole cluster, for people and as a map key: `namespace/service:port/protocol`. */
export type ServicePortId = string

/** The id of a ServicePort: `shop/web:http/tcp`, or by number when the port has no name: `shop/web:80/tcp`. */
export function servicePortIdOf(service: Service, port: ServicePort): ServicePortId {
  return [service.namespace, '/', service.name, ':', port.name || port.port, '/', port.protocol].join('')
}
