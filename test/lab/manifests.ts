import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { stringify } from 'yaml'

/** Where a lab puts its manifests, and how agents are told to find what they say. */
export interface ManifestStore extends AsyncDisposable {
  /** Fields of `kubeAPIConfig`. */
  readonly kubeAPIConfig: Readonly<Record<string, unknown>>
  /** Adds or replaces what a file says, in one step. */
  write(name: string, yamlText: string): Promise<void>
  /** Takes away what a file says. */
  remove(name: string): Promise<void>
}

/** A folder that agents watch; drafts are written beside it. The folder must exist, and is left alone at the end. */
export function createManifestFolder(folder: string): ManifestStore {
  return {
    kubeAPIConfig: { manifests: folder },
    async write(name, yamlText) {
      const draft = join(folder, '..', `draft-${name}`)
      await writeFile(draft, yamlText)
      await rename(draft, join(folder, name))
    },
    remove: (name) => rm(join(folder, name)),
    async [Symbol.asyncDispose]() {},
  }
}

/** A port of a Service and, by name, of its endpoints. */
export interface ManifestPort {
  readonly name?: string
  readonly port: number
  readonly targetPort?: number
  readonly protocol?: 'TCP' | 'UDP'
  readonly nodePort?: number
}

/** What a Service's manifest says. */
export interface ServiceManifest {
  readonly namespace?: string
  readonly name: string
  /** `None` makes it headless. */
  readonly clusterIP: string
  readonly ports: readonly ManifestPort[]
  readonly labels?: Readonly<Record<string, string>>
  /** Default ClusterIP. */
  readonly type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer'
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
    readonly hostname?: string
    readonly ready?: boolean
  }[]
}

/** YAML of a v1 Service. */
export function serviceManifest(service: ServiceManifest): string {
  const { namespace = 'default', name, clusterIP, ports, labels, type = 'ClusterIP' } = service
  return stringify({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { namespace, name, ...(labels && { labels }) },
    spec: {
      type,
      clusterIP,
      clusterIPs: [clusterIP],
      ports: ports.map(({ name: portName, port, targetPort = port, protocol = 'TCP', nodePort }) => ({
        ...(portName !== undefined && { name: portName }),
        port,
        targetPort,
        protocol,
        ...(nodePort !== undefined && { nodePort }),
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
    endpoints: endpoints.map(({ address, nodeName, podName, hostname, ready = true }) => ({
      addresses: [address],
      conditions: { ready },
      ...(nodeName !== undefined && { nodeName }),
      ...(hostname !== undefined && { hostname }),
      ...(podName !== undefined && { targetRef: { kind: 'Pod', namespace, name: podName } }),
    })),
  })
}
