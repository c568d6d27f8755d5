import type { KubeObject, ManifestEntry } from './manifest.ts'
import { anyObject, bool, type CrdSchema, integer, listOf, objectOf, text, textMap } from './schema.ts'

/**
 * The kinds of Istio's API that EdgeMesh reads, for clusters without Istio. Fields that EdgeMesh uses are checked for
 * their type, all others are kept unchecked: objects made for Istio must not be refused.
 */
export function istioEntries(): ManifestEntry[] {
  const comment = 'For clusters without Istio, which brings its own and newer definition of this kind.'
  return kinds.map((kind) => ({ comment, object: definitionOf(kind) }))
}

interface IstioKind {
  readonly kind: string
  readonly plural: string
  readonly shortNames: readonly string[]
  readonly spec: CrdSchema
  readonly columns: readonly { readonly name: string; readonly jsonPath: string }[]
}

const portNumber = objectOf({ number: integer })
const destination = objectOf({ host: text, subset: text, port: portNumber })
const routes = listOf(objectOf({ destination, weight: integer }))

const consistentHash = objectOf({
  httpHeaderName: text,
  httpQueryParameterName: text,
  useSourceIp: bool,
  httpCookie: objectOf({ name: text, path: text, ttl: text }),
  minimumRingSize: integer,
})
const trafficPolicy = objectOf({ loadBalancer: objectOf({ simple: text, consistentHash }) })

const destinationRule: IstioKind = {
  kind: 'DestinationRule',
  plural: 'destinationrules',
  shortNames: ['dr'],
  spec: objectOf({
    host: text,
    exportTo: listOf(text),
    trafficPolicy,
    subsets: listOf(objectOf({ name: text, labels: textMap, trafficPolicy }, ['name'])),
  }),
  columns: [{ name: 'Host', jsonPath: '.spec.host' }],
}

const tls = objectOf({
  mode: text,
  credentialName: text,
  httpsRedirect: bool,
  minProtocolVersion: text,
  maxProtocolVersion: text,
  cipherSuites: listOf(text),
})

const gateway: IstioKind = {
  kind: 'Gateway',
  plural: 'gateways',
  shortNames: ['gw'],
  spec: objectOf({
    selector: textMap,
    servers: listOf(
      objectOf({
        name: text,
        bind: text,
        hosts: listOf(text),
        port: objectOf({ number: integer, protocol: text, name: text, targetPort: integer }),
        tls,
      }),
    ),
  }),
  columns: [],
}

const virtualService: IstioKind = {
  kind: 'VirtualService',
  plural: 'virtualservices',
  shortNames: ['vs'],
  spec: objectOf({
    hosts: listOf(text),
    gateways: listOf(text),
    exportTo: listOf(text),
    http: listOf(objectOf({ name: text, match: listOf(anyObject), route: routes, timeout: text })),
    tcp: listOf(objectOf({ match: listOf(anyObject), route: routes })),
    tls: listOf(objectOf({ match: listOf(anyObject), route: routes })),
  }),
  columns: [
    { name: 'Gateways', jsonPath: '.spec.gateways' },
    { name: 'Hosts', jsonPath: '.spec.hosts' },
  ],
}

const kinds = [destinationRule, gateway, virtualService]
const group = 'networking.istio.io'

function definitionOf({ kind, plural, shortNames, spec, columns }: IstioKind): KubeObject {
  const age = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' }
  const schema = { type: 'object', properties: { spec, status: anyObject } }
  const versionOf = (name: string, storage: boolean) => ({
    name,
    served: true,
    storage,
    schema: { openAPIV3Schema: schema },
    subresources: { status: {} },
    additionalPrinterColumns: [...columns.map((column) => ({ ...column, type: 'string' })), age],
  })
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Namespaced',
      names: {
        kind,
        listKind: `${kind}List`,
        plural,
        singular: kind.toLowerCase(),
        shortNames,
        categories: ['istio-io'],
      },
      // One schema for both: the fields are the same.
      versions: [versionOf('v1alpha3', false), versionOf('v1beta1', true)],
    },
  }
}
