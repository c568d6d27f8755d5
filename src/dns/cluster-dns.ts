import type { Catalog, Snapshot } from '../catalog/index.ts'
import { keyOf, type Service } from '../model/index.ts'
import type { DnsConfig } from './config.ts'

/** The resolvers of the cache mode: the DNS Service of the cluster and what is configured; none when it is off. */
export function createClusterDns(config: DnsConfig['cacheDNS'], catalog: Catalog): () => readonly string[] {
  if (!config.enable) return () => []
  let snapshot: Snapshot | undefined
  let servers: readonly string[] = []
  return () => {
    if (snapshot === catalog.current) return servers
    snapshot = catalog.current
    servers = [...new Set([...(config.autoDetect ? detect(snapshot) : []), ...config.upstreamServers])]
    return servers
  }
}

/** The ClusterIPs of the cluster's DNS, by the names and the label that its usual deployments have. */
function detect({ services }: Snapshot): readonly string[] {
  return [...services.values()]
    .filter((service) => service.namespace === 'kube-system' && isClusterDns(service))
    .sort((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1))
    .flatMap(({ clusterIPs, ports }) => {
      const port = ports.find(({ protocol }) => protocol === 'udp')?.port ?? 53
      return clusterIPs.filter((address) => !address.includes(':')).map((address) => `${address}:${port}`)
    })
}

function isClusterDns({ name, labels }: Service): boolean {
  return name === 'coredns' || name === 'kube-dns' || labels['k8s-app'] === 'kube-dns'
}
