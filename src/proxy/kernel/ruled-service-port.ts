import type { Protocol } from '../../model/index.ts'
import type { Destination } from '../service-plan.ts'
import type { NftElement } from './nft-table.ts'

/** One place that connections to a ServicePort may go: an endpoint, or the userspace proxy. */
export interface Slot {
  readonly address: string
  readonly port: number
}

/** Slots and how one of them is chosen. */
export interface Choice {
  /** Names the chain that chooses, where it needs one of its own. */
  readonly name: string
  readonly slots: readonly Slot[]
  /** `turns` is round robin; `source` gives a client address always the same slot. */
  readonly kind: 'random' | 'turns' | 'source'
  /** A client keeps its slot for this long after its last connection. */
  readonly affinitySeconds?: number | undefined
}

/** A ServicePort as rules see it. Without slots its connections are refused. */
export interface RuledServicePort extends Choice {
  readonly destinations: readonly Destination[]
  /** Of each endpoint on this node, which may be a client of its own Service, the address twice: `a . a`. */
  readonly hairpins: readonly string[]
  readonly external?: RuledExternalAccess
}

/** How a ServicePort is reached at other addresses than its ClusterIPs. */
export interface RuledExternalAccess {
  readonly protocol: Protocol
  readonly destinations: readonly Destination[]
  /** Packets to it keep their source address, also where those to other Services would not. */
  readonly keepsSources?: boolean | undefined
  readonly nodePort?: number | undefined
  readonly choice: Choice
  /** For clients outside the cluster, when it is another one; without slots they are dropped. */
  readonly outside?: Choice
  /** Where connections to the node port at a loopback address go; the kernel sends them nowhere else. */
  readonly loopback?: Slot | undefined
  readonly guard?: { readonly destinations: readonly Destination[]; readonly networks: readonly string[] } | undefined
}

/**
 * A way to find a slot: by address and port or, for node ports, by port alone, for clients inside or outside. Each has
 * its own chains and maps, whose names begin so.
 */
export type Way = '' | 'outside-' | 'port-' | 'outside-port-'

/** Names of the containers that packets are looked up in. */
export const lookups = {
  service: 'service',
  refused: 'refused',
  addresses: 'cluster-addresses',
  hairpin: 'hairpin',
  external: 'external',
  outside: 'outside',
  refusedExternal: 'refused-external',
  nodePort: 'node-port',
  outsidePort: 'outside-port',
  nodePorts: 'node-ports-in-use',
  refusedPort: 'refused-port',
  loopback: 'loopback-port',
  guarded: 'guarded',
  sourceRanges: 'source-ranges',
  refusing: 'refusing',
  contacted: 'contacted',
} as const

/** Name of the chain that chooses among slots. */
export function chainOf(way: Way, { name, slots, kind, affinitySeconds }: Choice): string {
  if (kind !== 'random') return `${kind}-${name.replaceAll(/[^\w./-]/g, '_')}`
  return `${way}${affinitySeconds === undefined ? 'slots' : 'sticky'}-${slots.length}`
}

/** Name of the set of destinations whose clients keep their slot for this long. */
export const stickySetOf = (seconds: number, isPort: boolean): string => `${isPort ? 'port-' : ''}sticky-for-${seconds}`

/** `protocol . address . port`, the key of a destination. */
export const keyOf = ({ protocol, address, port }: Destination): string => `${protocol} . ${address} . ${port}`

/** All choices of a ServicePort: at its ClusterIPs, and elsewhere for clients inside and outside. */
export function choicesOf({ external, ...inside }: RuledServicePort): Choice[] {
  if (external === undefined) return [inside]
  return external.outside === undefined ? [inside, external.choice] : [inside, external.choice, external.outside]
}

/** All that a ServicePort puts into maps and sets. */
export function elementsOf(entry: RuledServicePort): NftElement[] {
  const elements: NftElement[] = []
  for (const key of entry.hairpins) elements.push({ container: lookups.hairpin, key })
  for (const destination of entry.destinations) {
    const key = keyOf(destination)
    if (entry.slots.length === 0) elements.push({ container: lookups.refused, key })
    else {
      elements.push({ container: lookups.addresses, key: destination.address })
      addChoice(elements, lookups.service, '', key, entry)
    }
  }
  if (entry.external !== undefined) addExternal(elements, entry.external)
  return elements
}

/** The keys among them of a container that ServicePorts share. */
export function sharedKeysOf(
  { destinations, slots, hairpins, external }: RuledServicePort,
  container: string,
): readonly string[] {
  if (container === lookups.hairpin) return hairpins
  const inside = slots.length === 0 ? [] : destinations
  const outside = external === undefined || !isTranslatedBack(external) ? [] : external.destinations
  return [...inside, ...outside].map(({ address }) => address)
}

const isTranslatedBack = ({ choice, keepsSources }: RuledExternalAccess): boolean =>
  choice.slots.length > 0 && keepsSources !== true

function addExternal(elements: NftElement[], external: RuledExternalAccess): void {
  const { destinations, choice, outside, guard } = external
  const isServed = choice.slots.length > 0
  const translatedBack = isTranslatedBack(external) ? destinations : []
  for (const { address } of translatedBack) elements.push({ container: lookups.addresses, key: address })
  for (const key of destinations.map(keyOf)) {
    if (isServed) addChoice(elements, lookups.external, '', key, choice)
    else elements.push({ container: lookups.refusedExternal, key })
    if (isServed && outside !== undefined) addChoice(elements, lookups.outside, 'outside-', key, outside)
  }
  addNodePort(elements, external)
  if (guard !== undefined) addGuard(elements, guard)
}

function addGuard(elements: NftElement[], guard: NonNullable<RuledExternalAccess['guard']>): void {
  for (const key of guard.destinations.map(keyOf)) {
    elements.push({ container: lookups.guarded, key })
    for (const network of guard.networks) {
      elements.push({ container: lookups.sourceRanges, key: `${key} . ${network}` })
    }
  }
}

function addNodePort(elements: NftElement[], external: RuledExternalAccess): void {
  const { protocol, nodePort, choice, outside, loopback } = external
  if (nodePort === undefined) return
  const key = `${protocol} . ${nodePort}`
  if (choice.slots.length === 0) {
    elements.push({ container: lookups.refusedPort, key })
    return
  }
  elements.push({ container: lookups.nodePorts, key })
  addChoice(elements, lookups.nodePort, 'port-', key, choice)
  if (outside !== undefined) addChoice(elements, lookups.outsidePort, 'outside-port-', key, outside)
  if (loopback !== undefined) {
    elements.push({ container: lookups.loopback, key, value: `${loopback.address} . ${loopback.port}` })
  }
}

function addChoice(elements: NftElement[], container: string, way: Way, key: string, choice: Choice): void {
  if (choice.slots.length === 0) {
    elements.push({ container, key, value: 'drop' })
    return
  }
  elements.push({ container, key, value: `jump ${chainOf(way, choice)}` })
  if (choice.kind !== 'random') return
  for (const [slot, { address, port }] of choice.slots.entries()) {
    elements.push({ container: `${way}slot-${slot}`, key, value: `${address} . ${port}` })
  }
  if (choice.affinitySeconds === undefined) return
  elements.push({ container: stickySetOf(choice.affinitySeconds, way.endsWith('port-')), key })
}
