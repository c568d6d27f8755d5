import {
  type DestinationRule,
  type EndpointSlice,
  keyOf,
  type ObjectKey,
  type Pod,
  type Service,
} from '../model/index.ts'
import { ShardedMap } from '../runtime/index.ts'
import type { KubeObjects, ObjectKind } from './object-sink.ts'
import { noSlices, ServiceSlices } from './service-slices.ts'
import type { Snapshot } from './snapshot.ts'
import {
  emptyTargetIndex,
  ownersIn,
  type ServiceState,
  type TargetIndex,
  targetKeyOf,
  updateTargetIndex,
} from './target-index.ts'

/** Kinds that a snapshot holds as maps and makes nothing else of. */
const plainKinds = [
  'nodes',
  'destinationRules',
  'gateways',
  'virtualServices',
  'secrets',
] as const satisfies readonly ObjectKind[]

type PlainMaps = { readonly [K in (typeof plainKinds)[number]]: ReadonlyMap<ObjectKey, KubeObjects[K]> }

/** What a snapshot is made of; each part is immutable and shared between snapshots that agree on it. */
export interface SnapshotParts {
  readonly sequence: number
  readonly services: ReadonlyMap<ObjectKey, Service>
  readonly clusterIPs: () => ReadonlyMap<string, Service>
  readonly plain: PlainMaps
  readonly slices: ShardedMap<ServiceSlices>
  readonly rules: ShardedMap<readonly DestinationRule[]>
  readonly pods: ShardedMap<Pod>
  readonly targets: TargetIndex
}

/** What an `ObjectStore` supplies for the next snapshot. */
export interface SnapshotChanges {
  /** Services that changed, themselves or in what belongs to them. */
  readonly touched: ReadonlySet<ObjectKey>
  readonly touchedPods: ReadonlySet<ObjectKey>
  isKindTouched(kind: ObjectKind): boolean
  mapOf<K extends ObjectKind>(kind: K): ReadonlyMap<ObjectKey, KubeObjects[K]>
  slicesOf(serviceKey: ObjectKey): readonly EndpointSlice[]
  rulesOf(serviceKey: ObjectKey): readonly DestinationRule[]
}

/** The parts of a snapshot before anything is known. */
export const emptyParts: SnapshotParts = {
  sequence: 0,
  services: new Map(),
  clusterIPs: () => new Map(),
  plain: {
    nodes: new Map(),
    destinationRules: new Map(),
    gateways: new Map(),
    virtualServices: new Map(),
    secrets: new Map(),
  },
  slices: ShardedMap.empty(),
  rules: ShardedMap.empty(),
  pods: ShardedMap.empty(),
  targets: emptyTargetIndex,
}

/** The parts after some Services changed; costs what changed, plus one copy of each plain map that did. */
export function nextParts(previous: SnapshotParts, changes: SnapshotChanges): SnapshotParts {
  const { touched, touchedPods } = changes
  const known = changes.mapOf('services')
  const areServicesSame = [...touched].every((key) => previous.services.get(key) === known.get(key))
  const services = areServicesSame ? previous.services : new Map(known)
  const slices = previous.slices.updated(touched, (key) => {
    const current = changes.slicesOf(key)
    return current.length === 0 ? undefined : new ServiceSlices(current)
  })
  const pods = changes.mapOf('pods')
  const parts = {
    sequence: previous.sequence + 1,
    services,
    clusterIPs: areServicesSame ? previous.clusterIPs : clusterIPIndexOf(services),
    plain: nextPlainMaps(previous.plain, changes),
    slices,
    rules: nextRules(previous.rules, changes),
    pods: previous.pods.updated(touchedPods, (key) => pods.get(key)),
  }
  const states = [...touched].map((key) => ({ before: stateOf(previous, key), after: stateOf(parts, key) }))
  return { ...parts, targets: updateTargetIndex(previous.targets, states) }
}

function nextPlainMaps(previous: PlainMaps, changes: SnapshotChanges): PlainMaps {
  const changed = plainKinds.filter((kind) => changes.isKindTouched(kind))
  if (changed.length === 0) return previous
  return {
    ...previous,
    ...Object.fromEntries(changed.map((kind) => [kind, new Map<string, unknown>(changes.mapOf(kind))])),
  }
}

/** A list that stays as it was keeps its identity, so that consumers see at a glance that nothing changed. */
function nextRules(previous: SnapshotParts['rules'], changes: SnapshotChanges): SnapshotParts['rules'] {
  return previous.updated(changes.touched, (key, before) => {
    const rules = changes.rulesOf(key)
    if (rules.length === 0) return undefined
    return before?.length === rules.length && rules.every((rule, at) => rule === before[at]) ? before : rules
  })
}

/** The snapshot over these parts. */
export function createSnapshot(parts: SnapshotParts): Snapshot {
  const { sequence, services, clusterIPs, plain, slices, rules, pods, targets } = parts
  const of = (service: Service) => slices.get(keyOf(service)) ?? noSlices
  return {
    sequence,
    services,
    ...plain,
    slicesOf: (service) => of(service).slices,
    slicesByService: slices,
    rulesByService: rules,
    backendsOf: (service, port) => of(service).backendsOf(service, port),
    serviceByClusterIP: (address) => clusterIPs().get(address),
    servicePortOfTarget: (target) => ownersIn(targets.get(targetKeyOf(target)))[0],
    destinationRulesOf: (service) => rules.get(keyOf(service)) ?? noRules,
    podOf: (namespace, name) => pods.get(keyOf({ namespace, name })),
  }
}

const noRules: readonly DestinationRule[] = []

function stateOf(parts: Pick<SnapshotParts, 'services' | 'slices'>, key: ObjectKey): ServiceState {
  return { service: parts.services.get(key), slices: (parts.slices.get(key) ?? noSlices).slices }
}

/** A function of its own: a closure made among others would keep alive what they use, here all snapshots before. */
function clusterIPIndexOf(services: ReadonlyMap<ObjectKey, Service>): SnapshotParts['clusterIPs'] {
  return onFirstUse(() => indexClusterIPs(services))
}

function indexClusterIPs(services: ReadonlyMap<ObjectKey, Service>): ReadonlyMap<string, Service> {
  const owners = new Map<string, Service>()
  for (const service of services.values()) {
    for (const address of service.clusterIPs) {
      const owner = owners.get(address)
      // Two Services with one address is a mistake; every node must at least make the same choice.
      if (owner === undefined || keyOf(service) < keyOf(owner)) owners.set(address, service)
    }
  }
  return owners
}

function onFirstUse<T>(compute: () => T): () => T {
  let known: { readonly value: T } | undefined
  return () => {
    known ??= { value: compute() }
    return known.value
  }
}
