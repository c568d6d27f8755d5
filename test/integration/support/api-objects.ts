/** Objects as a kube-apiserver gives them, and where it gives them. */
import type { ApiObject } from './api-double.ts'

/** Paths of the resources that edgemesh reads. */
export const paths = {
  services: '/api/v1/services',
  nodes: '/api/v1/nodes',
  endpoints: '/api/v1/endpoints',
  slicesV1: '/apis/discovery.k8s.io/v1/endpointslices',
  slicesV1beta1: '/apis/discovery.k8s.io/v1beta1/endpointslices',
  pods: '/api/v1/pods',
  secrets: '/api/v1/secrets',
  gatewaysV1: '/apis/networking.istio.io/v1/gateways',
  virtualServicesV1: '/apis/networking.istio.io/v1/virtualservices',
  rulesV1: '/apis/networking.istio.io/v1/destinationrules',
  rulesV1beta1: '/apis/networking.istio.io/v1beta1/destinationrules',
  rulesV1alpha3: '/apis/networking.istio.io/v1alpha3/destinationrules',
} as const

/** A Service with the fields that API servers add. */
export function serviceObject(name: string, clusterIP = '10.96.0.1'): ApiObject {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: 'shop',
      uid: `uid-${name}`,
      creationTimestamp: '2024-05-01T10:00:00Z',
      managedFields: [{ manager: 'kubectl', operation: 'Update', apiVersion: 'v1', fieldsV1: { 'f:spec': {} } }],
    },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      internalTrafficPolicy: 'Cluster',
      trafficDistribution: 'PreferClose',
      sessionAffinity: 'None',
      ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
    },
    status: { loadBalancer: {} },
  }
}

/** An EndpointSlice v1 of a Service, one endpoint an address, with hints. */
export function sliceObject(service: string, addresses: readonly string[], suffix = 'x7k2p'): ApiObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${service}-${suffix}`,
      namespace: 'shop',
      labels: { 'kubernetes.io/service-name': service, 'endpointslice.kubernetes.io/managed-by': 'controller' },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Service', name: service, uid: `uid-${service}` }],
    },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints: addresses.map((address, at) => ({
      addresses: [address],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: `edge-${at}`,
      zone: 'zone-a',
      hints: { forZones: [{ name: 'zone-a' }] },
      targetRef: { kind: 'Pod', namespace: 'shop', name: `${service}-${at}`, uid: `uid-${service}-${at}` },
    })),
  }
}

/** A v1 Endpoints object with ready addresses. */
export function endpointsObject(service: string, addresses: readonly string[]): ApiObject {
  return {
    metadata: { name: service, namespace: 'shop' },
    subsets: [
      {
        addresses: addresses.map((ip, at) => ({ ip, nodeName: `edge-${at}` })),
        ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      },
    ],
  }
}

/** A Node. */
export function nodeObject(name: string): ApiObject {
  return {
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] },
    status: { addresses: [{ type: 'InternalIP', address: '192.168.1.11' }] },
  }
}

/** A Pod that runs on a node. */
export function podObject(name: string, nodeName: string, podIP: string, labels: object = {}): ApiObject {
  return {
    metadata: { name, namespace: 'shop', uid: `uid-${name}`, labels },
    spec: { nodeName, containers: [{ name: 'main', image: 'example.org/main:1' }] },
    status: {
      phase: 'Running',
      podIP,
      podIPs: [{ ip: podIP }],
      conditions: [{ type: 'Ready', status: 'True' }],
    },
  }
}

/** A DestinationRule with this `spec`. */
export function ruleObject(name: string, spec: object): ApiObject {
  return { metadata: { name, namespace: 'shop', generation: 1 }, spec }
}
