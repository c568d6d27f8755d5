import {
  type EndpointSlice,
  type Protocol,
  type Service,
  type ServicePort,
  type ServicePortId,
  servicePortIdOf,
} from '../model/index.ts'
import { ShardedMap } from '../runtime/index.ts'
import { endpointPortOf } from './backends.ts'
import type { Target } from './snapshot.ts'

/** Which ServicePorts have an endpoint. */
export type TargetIndex = ShardedMap<TargetOwners>

/** One ServicePort, or more of them in order when Services share their pods. */
export type TargetOwners = ServicePortId | readonly ServicePortId[]

/** An index of nothing. */
export const emptyTargetIndex: TargetIndex = ShardedMap.empty()

/** One Service with its slices, at one moment; absent when it does not exist then. */
export interface ServiceState {
  readonly service: Service | undefined
  readonly slices: readonly EndpointSlice[]
}

/** The key of a target in the index. */
export function targetKeyOf({ protocol, nodeName, address, port }: Target): string {
  return targetKey(nodeName, protocol, address, port)
}

/** The index after some Services went from one state to another. */
export function updateTargetIndex(
  index: TargetIndex,
  changes: readonly { readonly before: ServiceState; readonly after: ServiceState }[],
): TargetIndex {
  // One after the other and not gathered: at start there are very many of them.
  let edit: Edit = { key: '', id: '', isThere: false }
  function* keys(): Generator<string> {
    for (edit of editsOf(changes)) yield edit.key
  }
  return index.updated(keys(), (_key, owners) => {
    return edit.isThere ? withOwner(owners, edit.id) : withoutOwner(owners, edit.id)
  })
}

/** The ServicePorts of an entry, in order. */
export function ownersIn(owners: TargetOwners | undefined): readonly ServicePortId[] {
  if (owners === undefined) return []
  return typeof owners === 'string' ? [owners] : owners
}

/** A ServicePort that gets or loses a target; one that keeps it does both. */
interface Edit {
  readonly key: string
  readonly id: ServicePortId
  readonly isThere: boolean
}

function* editsOf(
  changes: readonly { readonly before: ServiceState; readonly after: ServiceState }[],
): Generator<Edit> {
  for (const { before, after } of changes) {
    for (const target of targetsOf(before)) yield { ...target, isThere: false }
    for (const target of targetsOf(after)) yield { ...target, isThere: true }
  }
}

function withOwner(owners: TargetOwners | undefined, id: ServicePortId): TargetOwners {
  if (owners === undefined || owners === id) return id
  return [...new Set([...ownersIn(owners), id])].sort()
}

function withoutOwner(owners: TargetOwners | undefined, id: ServicePortId): TargetOwners | undefined {
  const others = ownersIn(owners).filter((owner) => owner !== id)
  return others.length > 1 ? others : others[0]
}

function* targetsOf({ service, slices }: ServiceState): Generator<Omit<Edit, 'isThere'>> {
  if (service === undefined) return
  for (const port of service.ports) {
    const id = servicePortIdOf(service, port)
    for (const slice of slices) yield* targetsIn(slice, port, id)
  }
}

function* targetsIn(slice: EndpointSlice, port: ServicePort, id: ServicePortId): Generator<Omit<Edit, 'isThere'>> {
  const target = endpointPortOf(slice, port)
  if (target === undefined) return
  for (const { nodeName, addresses } of slice.endpoints) {
    for (const address of addresses) yield { key: targetKey(nodeName, target.protocol, address, target.port), id }
  }
}

function targetKey(nodeName: string | undefined, protocol: Protocol, address: string, port: number): string {
  return [nodeName, protocol, address, port].join(' ')
}
