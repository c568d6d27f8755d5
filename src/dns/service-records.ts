import type { Snapshot } from '../catalog/index.ts'
import type { Endpoint, EndpointPort, Protocol, Service } from '../model/index.ts'

/** Says at which address this node reaches an endpoint when not at its own; undefined when at its own. */
export type AddressOfEndpoint = (service: Service, endpoint: Endpoint) => string | undefined

/** What records of Services are made from. */
export interface RecordSource {
  readonly snapshot: Snapshot
  readonly addressOfEndpoint?: AddressOfEndpoint | undefined
}

/** One address of a Service's endpoints that DNS gives out. */
export interface NamedEndpoint {
  /** Where this node reaches it. */
  readonly address: string
  /** Its own address, which elsewhere may be another pod's. */
  readonly ownAddress: string
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
export function namedEndpointsOf(source: RecordSource, service: Service): readonly NamedEndpoint[] {
  return source.snapshot.slicesOf(service).flatMap(({ addressType, endpoints, ports }) => {
    if (addressType !== 'IPv4') return []
    return endpoints.flatMap((endpoint) => {
      const [ownAddress] = endpoint.addresses
      if (ownAddress === undefined || !isPublished(service, endpoint)) return []
      const address = source.addressOfEndpoint?.(service, endpoint) ?? ownAddress
      return [{ address, ownAddress, label: endpoint.hostname ?? dashedOf(ownAddress), ports }]
    })
  })
}

/** True when a headless Service has no endpoint to name, of either family: then its own name does not exist either. */
export function isEmptyHeadless({ snapshot }: RecordSource, service: Service): boolean {
  if (!service.headless) return false
  return !snapshot.slicesOf(service).some(({ endpoints }) => endpoints.some((each) => isPublished(service, each)))
}

function isPublished(service: Service, { ready }: Endpoint): boolean {
  return ready || service.publishNotReadyAddresses
}

/** `10.1.2.3` as a label: `10-1-2-3`. */
export function dashedOf(address: string): string {
  return address.replaceAll('.', '-')
}

/** The IPv4 addresses of a Service's own name, each once: its ClusterIP, or its endpoints when it is headless. */
export function addressesOf(source: RecordSource, service: Service): readonly string[] {
  if (!service.headless) return service.clusterIPs.filter((address) => !address.includes(':'))
  return [...new Set(namedEndpointsOf(source, service).map(({ address }) => address))]
}

/** Where the named ports of a Service lead; all of them, or the one of that name and protocol. */
export function targetsOf(
  source: RecordSource,
  { service, serviceName }: { readonly service: Service; readonly serviceName: string },
  only?: { readonly name: string; readonly protocol: Protocol },
): readonly ServiceTarget[] {
  const isWanted = ({ name, protocol }: { readonly name: string; readonly protocol: Protocol }) =>
    name !== '' && (only === undefined || (name === only.name && protocol === only.protocol))
  if (service.headless) {
    return namedEndpointsOf(source, service).flatMap(({ address, label, ports }) =>
      ports.filter(isWanted).map(({ port }) => ({ host: `${label}.${serviceName}`, port, address })),
    )
  }
  const addresses = addressesOf(source, service)
  return service.ports.filter(isWanted).flatMap(({ port }) => {
    return addresses.slice(0, 1).map((address) => ({ host: serviceName, port, address }))
  })
}
