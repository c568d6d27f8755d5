import type { Endpoint, EndpointPort, EndpointSlice } from '../../model/index.ts'
import { type PlacementContext, parseEndpointPort, parsePlacement, parseViaNode } from './endpoint-slice.ts'
import { Field } from './field.ts'
import { parseIdentity } from './metadata.ts'
import { type Note, noNote } from './note.ts'

type Identity = ReturnType<typeof parseIdentity>

/**
 * A core/v1 Endpoints object as slices, one per subset and address family. Addresses that are not ready are kept as
 * such. The slices' names hold a colon, so no real slice can have them. Throws `ObjectParseError`.
 */
export function parseEndpoints(value: unknown, note: Note = noNote): EndpointSlice[] {
  const object = new Field(value)
  const identity = parseIdentity(object)
  const context = { namespace: identity.namespace, viaNode: parseViaNode(object), note }
  return object
    .at('subsets')
    .items()
    .flatMap((subset, index) => slicesOfSubset(identity, context, subset, index))
}

function slicesOfSubset(identity: Identity, context: PlacementContext, subset: Field, index: number): EndpointSlice[] {
  const ports = subset.at('ports').items().flatMap(parseEndpointPort)
  const endpoints = [
    ...addressesOf(subset.at('addresses'), true, context),
    ...addressesOf(subset.at('notReadyAddresses'), false, context),
  ]
  return (['IPv4', 'IPv6'] as const).flatMap((addressType) => {
    const own = endpoints.filter(({ addresses }) => addresses[0]?.includes(':') === (addressType === 'IPv6'))
    return own.length === 0
      ? []
      : [sliceOf(identity, `${index}:${addressType}`, { addressType, ports, endpoints: own })]
  })
}

function sliceOf(
  { namespace, name }: Identity,
  suffix: string,
  content: { addressType: EndpointSlice['addressType']; ports: EndpointPort[]; endpoints: Endpoint[] },
): EndpointSlice {
  return { namespace, name: `${name}:${suffix}`, serviceName: name, fromEndpoints: true, ...content }
}

function addressesOf(list: Field, ready: boolean, context: PlacementContext): Endpoint[] {
  return list.items().map((entry) => ({
    addresses: [entry.at('ip').ip()],
    ready,
    serving: ready,
    terminating: false,
    ...parsePlacement(entry, context),
  }))
}
