import type {
  BalancingPolicy,
  DestinationRule,
  EndpointPort,
  HashKey,
  HashRing,
  HeaderOperations,
  HttpAction,
  ServicePort,
  VirtualService,
} from '../model/index.ts'
import type { KubeObjects, ObjectKind } from './object-sink.ts'
import { type ObjectLists, storableKinds } from './objects.ts'
import { hasShape, isRecord, type Shape } from './shape.ts'

/** The objects of an earlier moment, as they are kept for a start without the API. */
export interface StoredObjects {
  /** When they were written, in milliseconds since 1970 by the clock of this node. */
  readonly savedAt: number
  readonly objects: ObjectLists
}

/**
 * Raise it when a field changes its meaning; that an old file lacks a new field is noticed by its shape. Kinds that
 * are new need no new version: a file without them has none of their objects.
 */
export const storedObjectsVersion = 1

const port: Shape<ServicePort> & Shape<EndpointPort> = { name: 'string', protocol: 'string', port: 'number' }

const operations: Shape<HeaderOperations> = { set: 'record', add: 'record', remove: ['string'] }

const shapes: { readonly [K in ObjectKind]: Shape<KubeObjects[K]> } = {
  services: {
    namespace: 'string',
    name: 'string',
    labels: 'record',
    type: 'string',
    clusterIPs: ['string'],
    headless: 'boolean',
    ports: [port],
    publishNotReadyAddresses: 'boolean',
  },
  endpointSlices: {
    namespace: 'string',
    name: 'string',
    serviceName: 'string',
    fromEndpoints: 'boolean',
    addressType: 'string',
    ports: [port],
    endpoints: [{ addresses: ['string'], ready: 'boolean', serving: 'boolean', terminating: 'boolean' }],
  },
  nodes: { name: 'string', labels: 'record', internalIPs: ['string'], podCIDRs: ['string'] },
  destinationRules: {
    namespace: 'string',
    name: 'string',
    host: 'string',
    exportTo: ['string'],
    trafficPolicy: {},
    portPolicies: [{ port: 'number', trafficPolicy: {} }],
    subsets: [{ name: 'string', labels: 'record' }],
    ignored: ['string'],
  },
  pods: { namespace: 'string', name: 'string', labels: 'record', podIPs: ['string'], ready: 'boolean' },
  gateways: {
    namespace: 'string',
    name: 'string',
    selector: 'record',
    servers: [{ port: 'number', protocol: 'string', hosts: [{ namespace: 'string', host: 'string' }] }],
    ignored: ['string'],
    problems: ['string'],
  },
  virtualServices: {
    namespace: 'string',
    name: 'string',
    hosts: ['string'],
    gateways: ['string'],
    exportTo: ['string'],
    http: [
      {
        name: 'string',
        action: { kind: 'string' } as Shape<HttpAction>,
        headers: { request: operations, response: operations },
      },
    ],
    tls: [
      { match: [{ sniHosts: ['string'], gateways: ['string'] }], destinations: [{ host: 'string', weight: 'number' }] },
    ],
    tcp: [{ destinations: [{ host: 'string', weight: 'number' }] }],
    ignored: ['string'],
    problems: ['string'],
  },
  // Never written, and passed over in files that hold some all the same.
  secrets: { namespace: 'string', name: 'string', data: 'record' },
}

/** Stored objects are damaged, or of a version that this one does not read. */
export class StoredObjectsError extends Error {
  override readonly name = 'StoredObjectsError'
  readonly code = 'EDGEMESH_STORED_OBJECTS'

  constructor(problem: string, options?: ErrorOptions) {
    super(`Cannot use the stored objects: ${problem}`, options)
  }
}

/** So many objects at a time take about a millisecond. */
const pieceLength = 50

/** The objects as JSON, in pieces, so that with many of them others get their turn in between. */
export function* renderStoredObjects({ savedAt, objects }: StoredObjects): Generator<string> {
  yield JSON.stringify({ version: storedObjectsVersion, savedAt }).slice(0, -1)
  for (const [kind, list] of Object.entries(objects)) {
    yield `,${JSON.stringify(kind)}:[`
    for (let at = 0; at < list.length; at += pieceLength) {
      const piece = JSON.stringify(list.slice(at, at + pieceLength)).slice(1, -1)
      yield at === 0 ? piece : `,${piece}`
    }
    yield ']'
  }
  yield '}'
}

/**
 * The objects of `renderStoredObjects`, also of another version of the program. Whoever stores the text sees to it
 * that it is whole; throws a `StoredObjectsError` when it holds something else.
 */
export function parseStoredObjects(text: string): StoredObjects {
  const document = parseJson(text)
  if (!isRecord(document)) throw new StoredObjectsError('they are no JSON object')
  const { version, savedAt } = document
  if (version !== storedObjectsVersion) {
    throw new StoredObjectsError(`version ${JSON.stringify(version)}, only ${storedObjectsVersion} is known`)
  }
  if (typeof savedAt !== 'number' || !Number.isFinite(savedAt)) throw new StoredObjectsError('savedAt is no number')
  const entries = storableKinds.map((kind) => [kind, listOf(kind, document[kind] ?? [])])
  return { savedAt, objects: Object.fromEntries(entries) as ObjectLists }
}

function listOf<K extends ObjectKind>(kind: K, value: unknown): readonly KubeObjects[K][] {
  if (!hasShape(value, [shapes[kind]])) throw new StoredObjectsError(`${kind} are not what this version stores`)
  const objects = value as readonly KubeObjects[K][]
  if (kind === 'destinationRules') return objects.filter((rule) => isReadableRule(rule as DestinationRule))
  if (kind === 'virtualServices') return objects.filter((object) => hasKnownActions(object as VirtualService))
  return objects
}

/** Policies are closed unions, and a newer program may know more kinds. */
function isReadableRule({ trafficPolicy, portPolicies, subsets }: DestinationRule): boolean {
  const policies = [trafficPolicy, ...[...portPolicies, ...subsets].map((part) => part.trafficPolicy ?? {})]
  return policies.every((policy) => isRecord(policy) && isKnownPolicy(policy['loadBalancer']))
}

function hasKnownActions({ http }: VirtualService): boolean {
  return http.every(({ action }) => actionKinds.includes(action.kind))
}

const actionKinds: readonly string[] = keysOf<HttpAction['kind']>({
  forward: true,
  redirect: true,
  answer: true,
  broken: true,
})

function isKnownPolicy(policy: unknown): boolean {
  if (policy === undefined) return true
  if (!hasShape(policy, { kind: 'string' })) return false
  const { kind, key, ring } = policy as { kind: string; key?: { kind?: string }; ring?: { kind?: string } }
  if (kind !== 'consistent-hash') return simplePolicies.includes(kind)
  return hashKeys.includes(key?.kind ?? '') && hashRings.includes(ring?.kind ?? '')
}

const simplePolicies = keysOf<Exclude<BalancingPolicy['kind'], 'consistent-hash'>>({
  'round-robin': true,
  random: true,
  'least-request': true,
  passthrough: true,
})
const hashKeys = keysOf<HashKey['kind']>({
  'source-ip': true,
  'http-header': true,
  'http-cookie': true,
  'query-parameter': true,
})
const hashRings = keysOf<HashRing['kind']>({ ring: true, maglev: true })

/** All members of a union of texts; one that is missing is a compile error. */
function keysOf<T extends string>(all: Readonly<Record<T, true>>): readonly string[] {
  return Object.keys(all)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new StoredObjectsError('they are no JSON', { cause: error })
  }
}
