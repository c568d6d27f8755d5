import { type ClusterNode, type EndpointSlice, keyOf, type ObjectKey, type Service } from '../model/index.ts'
import { noSlices, ServiceSlices } from './service-slices.ts'
import { ShardedMap } from './sharded-map.ts'
import type { Snapshot } from './snapshot.ts'
import {
  emptyTargetIndex,
  type ServiceState,
  type TargetIndex,
  targetKeyOf,
  updateTargetIndex,
} from './target-index.ts'

/** What a snapshot is made of; each part is immutable and shared between snapshots that agree on it. */
export interface SnapshotParts {
  readonly sequence: number
  readonly services: ReadonlyMap<ObjectKey, Service>
  readonly clusterIPs: () => ReadonlyMap<string, Service>
  readonly nodes: ReadonlyMap<string, ClusterNode>
  readonly slices: ShardedMap<ServiceSlices>
  readonly targets: TargetIndex
}

/** What an `ObjectStore` supplies for the next snapshot. */
export interface SnapshotChanges {
  readonly touched: ReadonlySet<ObjectKey>
  readonly services: ReadonlyMap<ObjectKey, Service>
  readonly nodes: ReadonlyMap<string, ClusterNode>
  slicesOf(serviceKey: ObjectKey): readonly EndpointSlice[]
}

/** The parts of a snapshot before anything is known. */
export const emptyParts: SnapshotParts = {
  sequence: 0,
  services: new Map(),
  clusterIPs: () => new Map(),
  nodes: new Map(),
  slices: ShardedMap.empty(),
  targets: emptyTargetIndex,
}

/** The parts after some Services changed; costs what changed, plus one copy of the map of Services. */
export function nextParts(previous: SnapshotParts, changes: SnapshotChanges): SnapshotParts {
  const { touched, nodes } = changes
  const areServicesSame = [...touched].every((key) => previous.services.get(key) === changes.services.get(key))
  const services = areServicesSame ? previous.services : new Map(changes.services)
  const slices = previous.slices.updated(touched, (key) => {
    const current = changes.slicesOf(key)
    return current.length === 0 ? undefined : new ServiceSlices(current)
  })
  const parts = {
    sequence: previous.sequence + 1,
    services,
    clusterIPs: areServicesSame ? previous.clusterIPs : clusterIPIndexOf(services),
    nodes,
    slices,
  }
  const states = [...touched].map((key) => ({ before: stateOf(previous, key), after: stateOf(parts, key) }))
  return { ...parts, targets: updateTargetIndex(previous.targets, states) }
}

/** The snapshot over these parts. */
export function createSnapshot({ sequence, services, clusterIPs, nodes, slices, targets }: SnapshotParts): Snapshot {
  const of = (service: Service) => slices.get(keyOf(service)) ?? noSlices
  return {
    sequence,
    services,
    nodes,
    slicesOf: (service) => of(service).slices,
    backendsOf: (service, port) => of(service).backendsOf(service, port),
    serviceByClusterIP: (address) => clusterIPs().get(address),
    servicePortOfTarget: (target) => targets.get(targetKeyOf(target))?.[0],
  }
}

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
