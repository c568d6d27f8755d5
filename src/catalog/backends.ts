import type { Backend, Endpoint, EndpointPort, EndpointSlice, Service, ServicePort } from '../model/index.ts'
import { trimmed } from '../runtime/index.ts'

/** The backends of a ServicePort among the slices of its Service, as `Snapshot.backendsOf` promises them. */
export function selectBackends(
  service: Service,
  port: ServicePort,
  slices: readonly EndpointSlice[],
): readonly Backend[] {
  const candidates = slices.flatMap((slice) => candidatesOf(slice, port))
  const ready = candidates.filter(({ endpoint }) => endpoint.ready || service.publishNotReadyAddresses)
  const usable = ready.length > 0 ? ready : candidates.filter(({ endpoint }) => isLastResort(endpoint))
  return sortedOnce(usable.map(({ endpoint, address, port: target }) => backendOf(endpoint, address, target)))
}

/** The port of a slice that a ServicePort means: same name, same protocol. */
export function endpointPortOf(slice: EndpointSlice, port: ServicePort): EndpointPort | undefined {
  return slice.ports.find(({ name, protocol }) => name === port.name && protocol === port.protocol)
}

interface Candidate {
  readonly endpoint: Endpoint
  readonly address: string
  readonly port: EndpointPort
}

function candidatesOf(slice: EndpointSlice, servicePort: ServicePort): Candidate[] {
  const port = slice.addressType === 'IPv4' ? endpointPortOf(slice, servicePort) : undefined
  if (port === undefined) return []
  // The addresses of one endpoint are interchangeable; like kube-proxy, take the first so that no pod counts twice.
  return slice.endpoints.flatMap((endpoint) => {
    const [address] = endpoint.addresses
    return address === undefined ? [] : [{ endpoint, address, port }]
  })
}

function isLastResort(endpoint: Endpoint): boolean {
  return endpoint.terminating && endpoint.serving
}

function backendOf(endpoint: Endpoint, address: string, port: EndpointPort): Backend {
  const { nodeName, hostname, pod, zone, forZones, forNodes } = endpoint
  return {
    ...(nodeName === undefined ? {} : { nodeName }),
    address,
    port: port.port,
    ...(hostname === undefined ? {} : { hostname }),
    ...(pod === undefined ? {} : { podName: pod.name, podNamespace: pod.namespace }),
    ...(zone === undefined ? {} : { zone }),
    ...(forZones === undefined ? {} : { forZones }),
    ...(forNodes === undefined ? {} : { forNodes }),
  }
}

function sortedOnce(backends: readonly Backend[]): readonly Backend[] {
  const sorted = [...backends].sort(compareBackends)
  const once = sorted.filter((backend, index) => {
    const previous = sorted[index - 1]
    return previous === undefined || compareBackends(previous, backend) !== 0
  })
  return trimmed(once)
}

function compareBackends(left: Backend, right: Backend): number {
  return (
    compareText(left.nodeName ?? '', right.nodeName ?? '') ||
    compareText(left.address, right.address) ||
    left.port - right.port
  )
}

function compareText(left: string, right: string): number {
  if (left === right) return 0
  return left < right ? -1 : 1
}
