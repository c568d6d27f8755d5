import { stringify } from 'yaml'

/** A port of a Service and, by name, of its endpoints. */
export interface ManifestPort {
  readonly name?: string
  readonly port: number
  readonly targetPort?: number
  readonly protocol?: 'TCP' | 'UDP'
}

/** What a Service's manifest says. */
export interface ServiceManifest {
  readonly namespace?: string
  readonly name: string
  /** `None` makes it headless. */
  readonly clusterIP: string
  readonly ports: readonly ManifestPort[]
  readonly labels?: Readonly<Record<string, string>>
}

/** What an EndpointSlice's manifest says. */
export interface EndpointSliceManifest {
  readonly namespace?: string
  readonly serviceName: string
  /** Default: the name of the Service with `-1`. */
  readonly name?: string
  readonly ports: readonly ManifestPort[]
  readonly endpoints: readonly {
    readonly address: string
    readonly nodeName?: string
    readonly podName?: string
    readonly ready?: boolean
  }[]
}

/** YAML of a v1 Service. */
export function serviceManifest({ namespace = 'default', name, clusterIP, ports, labels }: ServiceManifest): string {
  return stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name, ...(labels && { labels }) },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ports: ports.map(({ name: portName, port, targetPort = port, protocol = 'TCP' }) => ({
        ...(portName !== undefined && { name: portName }),
        port,
        targetPort,
        protocol,
      })),
    },
  })
}

/** YAML of a discovery.k8s.io/v1 EndpointSlice; its ports are the Service's target ports. */
export function endpointSliceManifest(slice: EndpointSliceManifest): string {
  const { namespace = 'default', serviceName, name = `${serviceName}-1`, ports, endpoints } = slice
  return stringify({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { namespace, name, labels: { 'kubernetes.io/service-name': serviceName } },
    addressType: 'IPv4',
    ports: ports.map(({ name: portName = '', port, targetPort = port, protocol = 'TCP' }) => ({
      name: portName,
      port: targetPort,
      protocol,
    })),
    endpoints: endpoints.map(({ address, nodeName, podName, ready = true }) => ({
      addresses: [address],
      conditions: { ready },
      ...(nodeName !== undefined && { nodeName }),
      ...(podName !== undefined && { targetRef: { kind: 'Pod', namespace, name: podName } }),
    })),
  })
}
