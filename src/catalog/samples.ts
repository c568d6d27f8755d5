import type { ClusterNode, DestinationRule, Endpoint, EndpointSlice, Pod, Service } from '../model/index.ts'

/** A Service `shop/web` for tests, with one port `http`. */
export function sampleService(changes: Partial<Service> = {}): Service {
  return {
    namespace: 'shop',
    name: 'web',
    labels: {},
    type: 'ClusterIP',
    clusterIPs: ['10.96.0.1'],
    headless: false,
    ports: [{ name: 'http', protocol: 'tcp', port: 80 }],
    publishNotReadyAddresses: false,
    ...changes,
  }
}

/** A ready endpoint on node `edge-a`. */
export function sampleEndpoint(address: string, changes: Partial<Endpoint> = {}): Endpoint {
  return { addresses: [address], ready: true, serving: true, terminating: false, nodeName: 'edge-a', ...changes }
}

/** A slice of `shop/web` with one endpoint 10.0.0.1:8080. */
export function sampleSlice(changes: Partial<EndpointSlice> = {}): EndpointSlice {
  return {
    namespace: 'shop',
    name: 'web-1',
    serviceName: 'web',
    fromEndpoints: false,
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'tcp', port: 8080 }],
    endpoints: [sampleEndpoint('10.0.0.1')],
    ...changes,
  }
}

/** A Node without details. */
export function sampleNode(name: string): ClusterNode {
  return { name, labels: {}, internalIPs: [], podCIDRs: [] }
}

/** A rule `shop/web` for the host `web`, without any policy. */
export function sampleRule(changes: Partial<DestinationRule> = {}): DestinationRule {
  const plain = { exportTo: [], trafficPolicy: {}, portPolicies: [], subsets: [], ignored: [] }
  return { namespace: 'shop', name: 'web', host: 'web', ...plain, ...changes }
}

/** A ready Pod `shop/web-0` on node `edge-a`. */
export function samplePod(changes: Partial<Pod> = {}): Pod {
  const placement = { nodeName: 'edge-a', podIPs: ['10.0.0.1'], ready: true }
  return { namespace: 'shop', name: 'web-0', labels: {}, ...placement, ...changes }
}
