import {
  type Endpoint,
  type EndpointSlice,
  type Protocol,
  type Service,
  type ServicePortId,
  servicePortIdOf,
} from '../model/index.ts'
import { ShardedMap } from '../runtime/index.ts'
import { endpointPortOf } from './backends.ts'
import type { Target } from './snapshot.ts'

/** Which ServicePorts have an endpoint: sorted, because two Services may share their pods. */
export type TargetIndex = ShardedMap<readonly ServicePortId[]>

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
  const edits = new Map<string, Edit>()
  const editOf = (key: string): Edit => {
    const known = edits.get(key)
    if (known !== undefined) return known
    const edit = { removed: [], added: [] }
    edits.set(key, edit)
    return edit
  }
  for (const { before, after } of changes) {
    eachTarget(before, (key, id) => editOf(key).removed.push(id))
    eachTarget(after, (key, id) => editOf(key).added.push(id))
  }
  return index.updated(edits.keys(), (key, ids = []) => editedIds(ids, editOf(key)))
}

/** What changes of one target; a ServicePort that stays is in both. */
interface Edit {
  readonly removed: ServicePortId[]
  readonly added: ServicePortId[]
}

function editedIds(ids: readonly ServicePortId[], { removed, added }: Edit): readonly ServicePortId[] | undefined {
  // Most targets belong to one ServicePort, and at start there are very many of them.
  if (ids.length === 0 && added.length === 1) return [...added]
  const next = new Set([...ids.filter((id) => !removed.includes(id)), ...added])
  return next.size === 0 ? undefined : [...next].sort()
}

function eachTarget({ service, slices }: ServiceState, visit: (key: string, id: ServicePortId) => void): void {
  if (service === undefined) return
  for (const port of service.ports) {
    const id = servicePortIdOf(service, port)
    for (const slice of slices) {
      const target = endpointPortOf(slice, port)
      if (target === undefined) continue
      eachAddress(slice.endpoints, (nodeName, address) => {
        visit(targetKey(nodeName, target.protocol, address, target.port), id)
      })
    }
  }
}

function eachAddress(
  endpoints: readonly Endpoint[],
  visit: (nodeName: string | undefined, address: string) => void,
): void {
  for (const { nodeName, addresses } of endpoints) {
    for (const address of addresses) visit(nodeName, address)
  }
}

function targetKey(nodeName: string | undefined, protocol: Protocol, address: string, port: number): string {
  return `${nodeName ?? ''} ${protocol} ${address} ${port}`
}
