import type { Snapshot } from '../catalog/index.ts'
import type { EndpointPort, Protocol, Service } from '../model/index.ts'

/** One address of a Service's endpoints that DNS gives out. */
export interface NamedEndpoint {
  readonly address: string
  /** The label of its own name below the Service: the host name, else the address with dashes. */
  readonly label: string
  readonly ports: readonly EndpointPort[]
}

/** Where an SRV record points to. */
export interface ServiceTarget {
  readonly host: string
  readonly port: number
  /** The address of the host, for the additional section. */
  readonly address: string
}

/** The endpoints of a Service that are ready, or all of them when it publishes those that are not. */
export function namedEndpointsOf(snapshot: Snapshot, service: Service): readonly NamedEndpoint[] {
  return snapshot.slicesOf(service).flatMap(({ addressType, endpoints, ports }) => {
    if (addressType !== 'IPv4') return []
    return endpoints.flatMap(({ addresses: [address], ready, hostname }) => {
      if (address === undefined || !(ready || service.publishNotReadyAddresses)) return []
      return [{ address, label: hostname ?? dashedOf(address), ports }]
    })
  })
}

/** `10.1.2.3` as a label: `10-1-2-3`. */
export function dashedOf(address: string): string {
  return address.replaceAll('.', '-')
}

/** The IPv4 addresses of a Service's own name, each once: its ClusterIP, or its endpoints when it is headless. */
export function addressesOf(snapshot: Snapshot, service: Service): readonly string[] {
  if (!service.headless) return service.clusterIPs.filter((address) => !address.includes(':'))
  return [...new Set(namedEndpointsOf(snapshot, service).map(({ address }) => address))]
}

/** Where the named ports of a Service lead; all of them, or the one of that name and protocol. */
export function targetsOf(
  snapshot: Snapshot,
  { service, serviceName }: { readonly service: Service; readonly serviceName: string },
  only?: { readonly name: string; readonly protocol: Protocol },
): readonly ServiceTarget[] {
  const isWanted = ({ name, protocol }: { readonly name: string; readonly protocol: Protocol }) =>
    name !== '' && (only === undefined || (name === only.name && protocol === only.protocol))
  if (service.headless) {
    return namedEndpointsOf(snapshot, service).flatMap(({ address, label, ports }) =>
      ports.filter(isWanted).map(({ port }) => ({ host: `${label}.${serviceName}`, port, address })),
    )
  }
  const addresses = addressesOf(snapshot, service)
  return service.ports.filter(isWanted).flatMap(({ port }) => {
    return addresses.slice(0, 1).map((address) => ({ host: serviceName, port, address }))
  })
}
