import { differencesOf, type ReadableMap } from '../../runtime/index.ts'
import type { NftContainer } from './nft-table.ts'
import {
  type Choice,
  chainOf,
  type RuledExternalAccess,
  type RuledServicePort,
  type Way,
} from './ruled-service-port.ts'
import { sourceTableOf, sourceTableSize } from './source-table.ts'

/** What the ServicePorts need besides their own elements. */
export interface RulesetNeeds {
  readonly hasExternal: boolean
  readonly hasNodePorts: boolean
  readonly hasGuards: boolean
  /** How many slots the largest ServicePort has, by the way to them. */
  readonly slots: ReadonlyMap<Way, number>
  /** One choice for each chain that chooses, with the way to its slots. */
  readonly chains: ReadonlyMap<string, { readonly way: Way; readonly choice: Choice }>
  /** For each affinity timeout in use: whether for addresses or for node ports. */
  readonly stickySets: readonly { readonly seconds: number; readonly isPort: boolean }[]
}

/** Says what all of them need together, again and again; costs what changed. */
export function createNeeds(): (servicePorts: ReadableMap<RuledServicePort>) => RulesetNeeds {
  const collected = new Collected()
  let last: ReadableMap<RuledServicePort> = new Map()
  return (servicePorts) => {
    for (const { before, after } of differencesOf(last, servicePorts)) {
      for (const wish of wishesOf(before)) collected.release(wish)
      for (const wish of wishesOf(after)) collected.use(wish)
    }
    last = servicePorts
    return needsIn(collected)
  }
}

type StickySet = RulesetNeeds['stickySets'][number]
type Wish = readonly [
  name: string,
  what?: { readonly chain: { readonly way: Way; readonly choice: Choice } } | { readonly set: StickySet },
]

/** All that one ServicePort needs, by name; choices by the names of their chains. */
function* wishesOf(servicePort: RuledServicePort | undefined): Generator<Wish> {
  if (servicePort === undefined) return
  yield* choosing('', servicePort)
  if (servicePort.external !== undefined) yield* externalWishesOf(servicePort.external)
}

function* externalWishesOf(external: RuledExternalAccess): Generator<Wish> {
  const { destinations, nodePort, choice, outside, guard } = external
  for (const way of ['', 'port-'] as const) {
    if (way === '' ? destinations.length === 0 : nodePort === undefined) continue
    yield [way === '' ? wishes.external : wishes.nodePorts]
    yield* choosing(way, choice)
    if (outside !== undefined) yield* choosing(`outside-${way}`, outside)
  }
  if (guard !== undefined) yield [wishes.guards]
}

function* choosing(way: Way, choice: Choice): Generator<Wish> {
  const { slots, kind, affinitySeconds: seconds } = choice
  if (slots.length === 0) return
  yield [chainOf(way, choice), { chain: { way, choice } }]
  const isPort = way.endsWith('port-')
  if (kind === 'random' && seconds !== undefined) yield [`sticky ${seconds} ${isPort}`, { set: { seconds, isPort } }]
}

/** No chain has a name with a space. */
const wishes = { external: 'external destinations', nodePorts: 'node ports', guards: 'source ranges' } as const

/** How many ask for each thing. */
class Collected {
  readonly #counts = new Map<string, number>()
  readonly chains = new Map<string, { readonly way: Way; readonly choice: Choice }>()
  readonly stickySets = new Map<string, StickySet>()

  has(name: string): boolean {
    return this.#counts.has(name)
  }

  use([name, what]: Wish): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1)
    if (what === undefined) return
    if ('chain' in what) this.chains.set(name, what.chain)
    else this.stickySets.set(name, what.set)
  }

  release([name]: Wish): void {
    const count = (this.#counts.get(name) ?? 0) - 1
    if (count > 0) this.#counts.set(name, count)
    else {
      this.#counts.delete(name)
      this.chains.delete(name)
      this.stickySets.delete(name)
    }
  }
}

function needsIn(collected: Collected): RulesetNeeds {
  const slots = new Map<Way, number>()
  for (const { way, choice } of collected.chains.values()) {
    if (choice.kind === 'random') slots.set(way, Math.max(choice.slots.length, slots.get(way) ?? 0))
  }
  return {
    hasExternal: collected.has(wishes.external),
    hasNodePorts: collected.has(wishes.nodePorts),
    hasGuards: collected.has(wishes.guards),
    slots,
    chains: new Map(sortedByName(collected.chains)),
    stickySets: sortedByName(collected.stickySets).map(([, set]) => set),
  }
}

const sortedByName = <V>(map: ReadonlyMap<string, V>): (readonly [string, V])[] =>
  [...map].sort(([left], [right]) => (left < right ? -1 : 1))

const keyTypes: Readonly<Record<Way, string>> = {
  '': 'inet_proto . ipv4_addr . inet_service',
  'outside-': 'inet_proto . ipv4_addr . inet_service',
  'port-': 'inet_proto . inet_service',
  'outside-port-': 'inet_proto . inet_service',
}

/** The maps that lead from destinations to their slots. */
export function slotMaps({ slots }: RulesetNeeds): (readonly [string, NftContainer])[] {
  return [...slots].flatMap(([way, count]) =>
    Array.from({ length: count }, (_, slot) => {
      const shape = [`type ${keyTypes[way]} : ipv4_addr . inet_service`]
      return [`${way}slot-${slot}`, { kind: 'map', shape }] as const
    }),
  )
}

/** Where clients are remembered: what they asked for and their address lead to their slot. Never emptied as a whole. */
export const affinityMap: readonly [string, NftContainer] = [
  'affinity',
  {
    kind: 'map',
    shape: [
      'type inet_proto . ipv4_addr . inet_service . ipv4_addr : ipv4_addr . inet_service',
      'flags dynamic,timeout',
      'size 65536',
    ],
    isDynamic: true,
  },
]

/** Chains that end in one slot, and those that choose among them. */
export function choosingChains({ slots, chains }: RulesetNeeds): (readonly [string, readonly string[]])[] {
  const ends = [...slots].flatMap(([way, count]) =>
    Array.from({ length: count }, (_, slot) => [`${way}slot-${slot}`, [translationTo(way, slot)]] as const),
  )
  return [...ends, ...[...chains].map(([name, { way, choice }]) => [name, choosingRules(way, choice)] as const)]
}

function translationTo(way: Way, slot: number): string {
  const key = way.endsWith('port-') ? 'meta l4proto . th dport' : 'meta l4proto . ip daddr . th dport'
  return `dnat ip to ${key} map @${way}slot-${slot}`
}

/** nft translates ports only where it has seen a match on the protocol. */
const anyProtocol = 'meta l4proto { tcp, udp }'

function choosingRules(way: Way, { slots, kind, affinitySeconds }: Choice): string[] {
  switch (kind) {
    case 'random': {
      const choices = slots.map((_, slot) => `${slot} : goto ${way}slot-${slot}`)
      const known = 'dnat ip to meta l4proto . ip daddr . th dport . ip saddr map @affinity'
      const choose = `numgen random mod ${slots.length} vmap { ${choices.join(', ')} }`
      return affinitySeconds === undefined ? [choose] : [known, choose]
    }
    case 'turns':
      // A counter that ServicePorts share would starve endpoints of some.
      return [`${anyProtocol} dnat ip to numgen inc mod ${slots.length} map { ${numbered(slots)} }`]
    case 'source':
      // With a fixed seed every restart gives clients what they had.
      return [
        `${anyProtocol} dnat ip to jhash ip saddr mod ${sourceTableSize} seed 0x656d map { ${numbered(sourceTableOf(slots))} }`,
      ]
    default:
      return kind satisfies never
  }
}

const numbered = (slots: Choice['slots']): string =>
  slots.map(({ address, port }, at) => `${at} : ${address} . ${port}`).join(', ')
