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

/** What all of them need together. */
export function needsOf(servicePorts: Iterable<RuledServicePort>): RulesetNeeds {
  const collected = new Collected()
  for (const entry of servicePorts) {
    collected.use('', entry)
    if (entry.external !== undefined) collected.useExternal(entry.external)
  }
  return collected.needs()
}

class Collected {
  #hasExternal = false
  #hasNodePorts = false
  #hasGuards = false
  readonly #slots = new Map<Way, number>()
  readonly #chains = new Map<string, { readonly way: Way; readonly choice: Choice }>()
  readonly #sticky = new Map<string, { readonly seconds: number; readonly isPort: boolean }>()

  use(way: Way, choice: Choice): void {
    const count = choice.slots.length
    if (count === 0) return
    this.#chains.set(chainOf(way, choice), { way, choice })
    if (choice.kind !== 'random') return
    if (count > (this.#slots.get(way) ?? 0)) this.#slots.set(way, count)
    const seconds = choice.affinitySeconds
    if (seconds === undefined) return
    const isPort = way.endsWith('port-')
    this.#sticky.set(`${seconds} ${isPort}`, { seconds, isPort })
  }

  useExternal({ destinations, nodePort, choice, outside, guard }: RuledExternalAccess): void {
    if (destinations.length > 0) this.#useBoth('', choice, outside)
    if (nodePort !== undefined) this.#useBoth('port-', choice, outside)
    this.#hasExternal ||= destinations.length > 0
    this.#hasNodePorts ||= nodePort !== undefined
    this.#hasGuards ||= guard !== undefined
  }

  #useBoth(way: '' | 'port-', choice: Choice, outside: Choice | undefined): void {
    this.use(way, choice)
    if (outside !== undefined) this.use(`outside-${way}`, outside)
  }

  needs(): RulesetNeeds {
    const chains = new Map([...this.#chains].sort(([left], [right]) => (left < right ? -1 : 1)))
    const stickySets = [...this.#sticky].sort(([left], [right]) => (left < right ? -1 : 1)).map(([, set]) => set)
    return {
      hasExternal: this.#hasExternal,
      hasNodePorts: this.#hasNodePorts,
      hasGuards: this.#hasGuards,
      slots: this.#slots,
      chains,
      stickySets,
    }
  }
}

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
