import type { Destination } from '../service-plan.ts'
import type { NftContainer, NftElement, NftTable } from './nft-table.ts'

/** One place that connections to a ServicePort may go: an endpoint, or the userspace proxy. */
export interface Slot {
  readonly address: string
  readonly port: number
}

/** A ServicePort with its slots, each equally likely. Without slots its connections are refused. */
export interface RuledServicePort {
  readonly destinations: readonly Destination[]
  readonly slots: readonly Slot[]
  /** Of each endpoint on this node, which may be a client of its own Service, the address twice: `a . a`. */
  readonly hairpins: readonly string[]
}

/** All that the ruleset depends on. */
export interface RulesetInput {
  /** By id; the same object as long as nothing about it changed. */
  readonly servicePorts: ReadonlyMap<string, RuledServicePort>
  readonly syntheticRange: string
  readonly listenPort: number
  /** Where this node answers DNS; its packets need no connection tracking. */
  readonly dns?: { readonly address: string; readonly port: number } | undefined
  /** Interfaces whose packets are left alone: those that lead to other machines. */
  readonly foreignInterfaces: readonly string[]
  /** Networks of bridges that switch frames between pods unseen by nftables. */
  readonly switchedNetworks: readonly string[]
}

/** Our table. */
export type Ruleset = NftTable<RuledServicePort>

/** Before kube-proxy, which translates at -100. */
const translationPriority = -110
/** Before the firewalls of others, so that a refused connection is refused and not dropped. */
const filterPriority = -10
/** Before connection tracking, which starts at -200. */
const trackingPriority = -310
/** Before the source translation of others, which is at 100. */
const sourcePriority = 90

/**
 * The table that makes ServicePorts reachable.
 *
 * ```
 *   service:   protocol . address . port -> jump slots-N   (N = how many slots it has)
 *   slots-N:   random number below N     -> goto slot-K
 *   slot-K:    protocol . address . port -> dnat to address . port
 * ```
 *
 * One map for all slots, with the random number in its key, would need a declaration by `typeof`; nft 1.0.6 then adds
 * a match on TCP to the first rule that uses it.
 */
export function rulesetOf(input: RulesetInput): Ruleset {
  const counts = new Set<number>()
  for (const { slots } of input.servicePorts.values()) counts.add(slots.length)
  counts.delete(0)
  const sorted = [...counts].sort((left, right) => left - right)
  const slots = Array.from({ length: sorted.at(-1) ?? 0 }, (_, slot) => slot)
  return {
    containers: containersOf(slots),
    chains: new Map([
      ...slots.map(slotChainOf),
      ...sorted.map(choiceChainOf),
      ...translationChains(input),
      ...sourceTranslationChains(input),
      ...filterChains(input),
      ...untrackedChains(input),
    ]),
    parts: input.servicePorts,
    elementsOf,
    sharedKeysOf,
  }
}

type Chain = readonly [name: string, rules: readonly string[]]

function containersOf(slots: readonly number[]): Map<string, NftContainer> {
  const key = 'inet_proto . ipv4_addr . inet_service'
  return new Map<string, NftContainer>([
    ['service', { kind: 'map', shape: [`type ${key} : verdict`] }],
    ...slots.map((slot) => {
      const shape = [`type ${key} : ipv4_addr . inet_service`]
      return [`slot-${slot}`, { kind: 'map', shape }] as const
    }),
    ['refused', { kind: 'set', shape: [`type ${key}`] }],
    ['cluster-addresses', { kind: 'set', shape: ['type ipv4_addr'], isShared: true }],
    ['hairpin', { kind: 'set', shape: ['type ipv4_addr . ipv4_addr'], isShared: true }],
  ])
}

const slotChainOf = (slot: number): Chain => [
  `slot-${slot}`,
  [`dnat ip to meta l4proto . ip daddr . th dport map @slot-${slot}`],
]

function choiceChainOf(count: number): Chain {
  const choices = Array.from({ length: count }, (_, slot) => `${slot} : goto slot-${slot}`)
  return [`slots-${count}`, [`numgen random mod ${count} vmap { ${choices.join(', ')} }`]]
}

function translationChains(input: RulesetInput): Chain[] {
  const hook = (name: string) => `type nat hook ${name} priority ${translationPriority}; policy accept;`
  return [
    ['services', ['meta l4proto . ip daddr . th dport vmap @service']],
    ['prerouting', [hook('prerouting'), ...skipForeign(input), 'jump services']],
    ['output', [hook('output'), 'jump services']],
  ]
}

/**
 * Answers must come back through this node. They would not when client and endpoint are the same, when a bridge
 * hands the answer straight to the client, or when a process chose a source address that the endpoint reaches
 * by another way. Everybody else keeps the address.
 */
function sourceTranslationChains({ switchedNetworks }: RulesetInput): Chain[] {
  const rules = [
    `type nat hook postrouting priority ${sourcePriority}; policy accept;`,
    'ct original ip daddr != @cluster-addresses return',
    'oifname "lo" return',
    'ip saddr . ip daddr @hairpin masquerade',
    ...switchedNetworks.map((network) => `ip saddr ${network} ip daddr ${network} masquerade`),
    'fib saddr type local fib saddr . oif type != local masquerade',
  ]
  return [['postrouting', rules]]
}

function filterChains(input: RulesetInput): Chain[] {
  const hook = (name: string) => `type filter hook ${name} priority ${filterPriority}; policy accept;`
  const refuse = 'meta l4proto . ip daddr . th dport @refused goto refuse'
  return [
    ['refuse', ['meta l4proto tcp reject with tcp reset', 'reject with icmp type port-unreachable']],
    ['filter-forward', [hook('forward'), skipEstablished, ...skipForeign(input), refuse]],
    ['filter-output', [hook('output'), skipEstablished, refuse]],
    [
      'filter-input',
      [
        hook('input'),
        ...refuseForeignQuestions(input),
        // Only our translation leads to the userspace proxy; who knocks directly finds nothing.
        'ct status dnat return',
        `tcp dport ${input.listenPort} drop`,
        `ip daddr ${input.syntheticRange} drop`,
      ],
    ],
  ]
}

function untrackedChains({ dns }: RulesetInput): Chain[] {
  const hook = (name: string) => `type filter hook ${name} priority ${trackingPriority}; policy accept;`
  const rules =
    dns === undefined
      ? []
      : [
          `ip daddr ${dns.address} meta l4proto { tcp, udp } th dport ${dns.port} notrack`,
          `ip saddr ${dns.address} meta l4proto { tcp, udp } th sport ${dns.port} notrack`,
        ]
  return [
    ['untracked-prerouting', [hook('prerouting'), ...rules]],
    ['untracked-output', [hook('output'), ...rules]],
  ]
}

/** A refused connection is never established; the many packets of the others are not looked up. */
const skipEstablished = 'ct state established,related return'

const skipForeign = (input: RulesetInput): string[] => fromForeign(input, 'return')

/** A neighbour may route the bridge address through this node. */
const refuseForeignQuestions = (input: RulesetInput): string[] =>
  input.dns === undefined ? [] : fromForeign(input, `ip daddr ${input.dns.address} drop`)

const fromForeign = ({ foreignInterfaces }: RulesetInput, statement: string): string[] =>
  foreignInterfaces.length === 0
    ? []
    : [`iifname { ${foreignInterfaces.map((name) => `"${name}"`).join(', ')} } ${statement}`]

function elementsOf({ destinations, slots, hairpins }: RuledServicePort): NftElement[] {
  const elements: NftElement[] = []
  for (const key of hairpins) elements.push({ container: 'hairpin', key })
  for (const destination of destinations) {
    const key = keyOf(destination)
    if (slots.length === 0) {
      elements.push({ container: 'refused', key })
      continue
    }
    elements.push({ container: 'cluster-addresses', key: destination.address })
    elements.push({ container: 'service', key, value: `jump slots-${slots.length}` })
    for (const [slot, { address, port }] of slots.entries()) {
      elements.push({ container: `slot-${slot}`, key, value: `${address} . ${port}` })
    }
  }
  return elements
}

function sharedKeysOf({ destinations, slots, hairpins }: RuledServicePort, container: string): readonly string[] {
  if (container === 'hairpin') return hairpins
  return slots.length === 0 ? [] : destinations.map(({ address }) => address)
}

const keyOf = ({ protocol, address, port }: Destination): string => `${protocol} . ${address} . ${port}`
