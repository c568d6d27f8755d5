import type { Endpoint, EndpointPort, EndpointSlice } from '../../model/index.ts'
import { trimmed } from '../../runtime/index.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'
import { type Note, noNote, usable, usableItems } from './note.ts'
import { parsePortNumber, parseProtocol } from './port.ts'

/**
 * A discovery.k8s.io EndpointSlice, v1 or v1beta1; undefined for one that belongs to no Service or lists host names
 * instead of addresses. Throws `ObjectParseError` when its addresses or ports cannot be read, and notes what else it
 * leaves out.
 */
export function parseEndpointSlice(value: unknown, note: Note = noNote): EndpointSlice | undefined {
  const object = new Field(value)
  const identity = parseIdentity(object)
  const serviceName = object.at('metadata', 'labels', 'kubernetes.io/service-name').text()
  const addressType = parseAddressType(object.at('addressType'))
  if (serviceName === '' || addressType === undefined) return undefined
  const context = { namespace: identity.namespace, viaNode: parseViaNode(object), note, addressType }
  return {
    ...identity,
    serviceName,
    fromEndpoints: false,
    addressType,
    ports: trimmed(object.at('ports').items().flatMap(parseEndpointPort)),
    endpoints: object
      .at('endpoints')
      .items()
      .map((endpoint) => parseEndpoint(endpoint, context)),
  }
}

/** One port of a slice or subset; none for other protocols and for the nameless "all ports" of custom controllers. */
export function parseEndpointPort(port: Field): EndpointPort[] {
  const protocol = parseProtocol(port)
  if (protocol === undefined || port.at('port').isAbsent) return []
  return [{ name: port.at('name').text(), protocol, port: parsePortNumber(port.at('port')) }]
}

/**
 * The node through which the endpoints outside the cluster are reached, such as a machine in that node's LAN; empty
 * when nothing says so. An annotation of the slice or the Endpoints object.
 */
export function parseViaNode(object: Field): string {
  const viaNode = object.at('metadata', 'annotations', 'edgemesh.kubeedge.io/via-node')
  return viaNode.text() === '' ? '' : viaNode.dnsName()
}

/** The object around an endpoint: its namespace, and the node of `parseViaNode`. */
export interface PlacementContext {
  readonly namespace: string
  readonly viaNode: string
  readonly note: Note
}

/** What is known of the Pod and node behind an address: `nodeName`, `hostname`, `zone`, `targetRef`. */
export function parsePlacement(
  endpoint: Field,
  { namespace, viaNode, note }: PlacementContext,
): Pick<Endpoint, 'nodeName' | 'hostname' | 'zone' | 'pod'> {
  const topology = endpoint.at('deprecatedTopology').isAbsent
    ? endpoint.at('topology')
    : endpoint.at('deprecatedTopology')
  const nodeName = endpoint.at('nodeName').text() || topology.at('kubernetes.io/hostname').text() || viaNode
  const zone = usable(() => endpoint.at('zone').text() || topology.at('topology.kubernetes.io/zone').text(), note)
  const hostname = usable(() => parseHostname(endpoint.at('hostname')), note)
  const pod = usable(() => parsePodReference(endpoint.at('targetRef'), namespace), note)
  return {
    ...(nodeName === '' ? {} : { nodeName }),
    ...(hostname === undefined ? {} : { hostname }),
    ...(zone === undefined || zone === '' ? {} : { zone }),
    ...(pod === undefined ? {} : { pod }),
  }
}

function parseHostname(field: Field): string | undefined {
  return field.text() === '' ? undefined : field.dnsName()
}

function parsePodReference(target: Field, namespace: string): Endpoint['pod'] {
  const name = target.at('name').text()
  if (target.at('kind').text() !== 'Pod' || name === '') return undefined
  return { namespace: target.at('namespace').text() || namespace, name }
}

function parseHints(hints: Field, note: Note): Pick<Endpoint, 'forZones' | 'forNodes'> {
  if (hints.isAbsent) return {}
  const nameOf = (item: Field) => item.at('name').text() || undefined
  const namesIn = (list: string) => usableItems(() => hints.at(list), nameOf, note)
  const [forZones, forNodes] = [namesIn('forZones'), namesIn('forNodes')]
  return { ...(forZones.length > 0 && { forZones }), ...(forNodes.length > 0 && { forNodes }) }
}

function parseAddressType(field: Field): EndpointSlice['addressType'] | undefined {
  switch (field.text()) {
    case 'IPv4':
    case 'IPv6':
      return field.text() as EndpointSlice['addressType']
    case 'FQDN':
      return undefined
    default:
      throw field.error('must be IPv4, IPv6 or FQDN')
  }
}

interface SliceContext extends PlacementContext {
  readonly addressType: EndpointSlice['addressType']
}

function parseEndpoint(endpoint: Field, context: SliceContext): Endpoint {
  const conditions = endpoint.at('conditions')
  const ready = conditions.at('ready').flag(true)
  return {
    addresses: endpoint
      .at('addresses')
      .items()
      .map((address) => parseAddress(address, context.addressType)),
    ready,
    // Absent in older clusters, where an endpoint serves exactly while it is ready.
    serving: conditions.at('serving').flag(ready),
    terminating: conditions.at('terminating').flag(false),
    ...parsePlacement(endpoint, context),
    ...parseHints(endpoint.at('hints'), context.note),
  }
}

function parseAddress(field: Field, addressType: EndpointSlice['addressType']): string {
  const address = field.ip()
  if (address.includes(':') !== (addressType === 'IPv6')) throw field.error(`must be an ${addressType} address`)
  return address
}
