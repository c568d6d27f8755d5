import type { Protocol } from './service.ts'

/** One port of an EndpointSlice: the port on the endpoints, found by the ServicePort's name. */
export interface EndpointPort {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
}

/** One entry of an EndpointSlice's `endpoints`; conditions are resolved to plain booleans. */
export interface Endpoint {
  readonly addresses: readonly string[]
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  /** Absent for endpoints outside the cluster. */
  readonly nodeName?: string
  readonly hostname?: string
  readonly zone?: string
  /** Zones that should use it, from `hints.forZones`; absent when there is no hint. */
  readonly forZones?: readonly string[]
  /** Nodes that should use it, from `hints.forNodes`; absent when there is no hint. */
  readonly forNodes?: readonly string[]
  /** The Pod behind the endpoint, when there is one. */
  readonly pod?: { readonly namespace: string; readonly name: string }
}

/** The fields of a discovery.k8s.io EndpointSlice that this product uses; v1 Endpoints are turned into these. */
export interface EndpointSlice {
  readonly namespace: string
  readonly name: string
  readonly serviceName: string
  /** True when it was made from a v1 Endpoints object; ignored once a real EndpointSlice names the same Service. */
  readonly fromEndpoints: boolean
  readonly addressType: 'IPv4' | 'IPv6'
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
}

/** The fields of a core/v1 Node that this product uses. */
export interface ClusterNode {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly internalIPs: readonly string[]
  readonly podCIDRs: readonly string[]
}

/** One address and port on one node that can serve a ServicePort; derived. Keyed by (node, address, port). */
export interface Backend {
  /** Absent for endpoints outside the cluster, which this node dials itself. */
  readonly nodeName?: string
  readonly address: string
  readonly port: number
  readonly hostname?: string
  readonly podName?: string
  /** The Pod's namespace, where there is a Pod. */
  readonly podNamespace?: string
  readonly zone?: string
  readonly forZones?: readonly string[]
  readonly forNodes?: readonly string[]
}

/** `node/address:port`, for logs and as a map key; addresses repeat across edge LANs, so the node is part of it. */
export function backendIdOf(backend: Backend): string {
  const known = ids.get(backend)
  if (known !== undefined) return known
  const host = backend.address.includes(':') ? `[${backend.address}]` : backend.address
  const id = [backend.nodeName ?? '-', '/', host, ':', backend.port].join('')
  ids.set(backend, id)
  return id
}

/** Backends do not change, and are asked for their id several times a request. */
const ids = new WeakMap<Backend, string>()
