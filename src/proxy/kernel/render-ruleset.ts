import type { Destination } from '../service-plan.ts'

/** One place that connections to a ServicePort may go: an endpoint, or the userspace proxy. */
export interface Slot {
  readonly address: string
  readonly port: number
}

/** A ServicePort with its slots, each equally likely. Without slots its connections are refused. */
export interface RuledServicePort {
  readonly destinations: readonly Destination[]
  readonly slots: readonly Slot[]
}

/** All that the ruleset depends on. */
export interface RulesetInput {
  readonly servicePorts: readonly RuledServicePort[]
  /** Addresses of endpoints on this node, which may be clients of their own Service. */
  readonly localBackends: readonly string[]
  readonly syntheticRange: string
  readonly listenPort: number
  /** Where this node answers DNS; its packets need no connection tracking. */
  readonly dns?: { readonly address: string; readonly port: number } | undefined
  /** Interfaces whose packets are left alone: those that lead to other machines. */
  readonly foreignInterfaces: readonly string[]
  /** Networks of bridges that switch frames between pods unseen by nftables. */
  readonly switchedNetworks: readonly string[]
}

/** Name of our table, in family ip. */
export const tableName = 'edgemesh'
const table = `ip ${tableName}`

/** Before kube-proxy, which translates at -100. */
const translationPriority = -110
/** Before the firewalls of others, so that a refused connection is refused and not dropped. */
const filterPriority = -10
/** Before connection tracking, which starts at -200. */
const trackingPriority = -310
/** Before the source translation of others, which is at 100. */
const sourcePriority = 90

/**
 * The whole table as one nft transaction. Chains are flushed and filled, never deleted and made: while the kernel has
 * no NAT chain, established connections lose their translation. Same input, same text.
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
export function renderRuleset(input: RulesetInput): string {
  const counts = [...new Set(input.servicePorts.map(({ slots }) => slots.length))].filter((count) => count > 0)
  counts.sort((left, right) => left - right)
  const slots = Array.from({ length: counts.at(-1) ?? 0 }, (_, slot) => slot)
  return [
    `add table ${table}`,
    `flush table ${table}`,
    `table ${table} {`,
    ...renderContainers(slots),
    ...slots.flatMap(renderSlotChain),
    ...counts.flatMap(renderChoiceChain),
    ...renderTranslation(input),
    ...renderSourceTranslation(input),
    ...renderFilters(input),
    ...renderUntracked(input),
    '}',
    ...renderElements(input, slots),
    '',
  ].join('\n')
}

/** Makes a ruleset replace a table whose maps or chains have another shape; established connections may break. */
export function renderReplacement(ruleset: string): string {
  return `add table ${table}\ndelete table ${table}\n${ruleset}`
}

function renderContainers(slots: readonly number[]): string[] {
  const key = 'inet_proto . ipv4_addr . inet_service'
  return [
    ...renderContainer('map', 'service', `${key} : verdict`),
    ...slots.flatMap((slot) => renderContainer('map', `slot-${slot}`, `${key} : ipv4_addr . inet_service`)),
    ...renderContainer('set', 'refused', key),
    ...renderContainer('set', 'cluster-addresses', 'ipv4_addr'),
    ...renderContainer('set', 'hairpin', 'ipv4_addr . ipv4_addr'),
  ]
}

const renderContainer = (kind: 'map' | 'set', name: string, type: string): string[] => [
  `  ${kind} ${name} {`,
  `    type ${type}`,
  '  }',
]

const renderSlotChain = (slot: number): string[] =>
  renderChain(`slot-${slot}`, [`dnat ip to meta l4proto . ip daddr . th dport map @slot-${slot}`])

function renderChoiceChain(count: number): string[] {
  const choices = Array.from({ length: count }, (_, slot) => `${slot} : goto slot-${slot}`)
  return renderChain(`slots-${count}`, [`numgen random mod ${count} vmap { ${choices.join(', ')} }`])
}

function renderTranslation(input: RulesetInput): string[] {
  const hook = (name: string) => `type nat hook ${name} priority ${translationPriority}; policy accept;`
  return [
    ...renderChain('services', ['meta l4proto . ip daddr . th dport vmap @service']),
    ...renderChain('prerouting', [hook('prerouting'), ...skipForeign(input), 'jump services']),
    ...renderChain('output', [hook('output'), 'jump services']),
  ]
}

/**
 * Answers must come back through this node. They would not when client and endpoint are the same, when a bridge
 * hands the answer straight to the client, or when a process chose a source address that the endpoint reaches
 * by another way. Everybody else keeps the address.
 */
function renderSourceTranslation({ switchedNetworks }: RulesetInput): string[] {
  return renderChain('postrouting', [
    `type nat hook postrouting priority ${sourcePriority}; policy accept;`,
    'ct original ip daddr != @cluster-addresses return',
    'oifname "lo" return',
    'ip saddr . ip daddr @hairpin masquerade',
    ...switchedNetworks.map((network) => `ip saddr ${network} ip daddr ${network} masquerade`),
    'fib saddr type local fib saddr . oif type != local masquerade',
  ])
}

function renderFilters(input: RulesetInput): string[] {
  const hook = (name: string) => `type filter hook ${name} priority ${filterPriority}; policy accept;`
  const refuse = 'meta l4proto . ip daddr . th dport @refused goto refuse'
  return [
    ...renderChain('refuse', ['meta l4proto tcp reject with tcp reset', 'reject with icmp type port-unreachable']),
    ...renderChain('filter-forward', [hook('forward'), ...skipForeign(input), refuse]),
    ...renderChain('filter-output', [hook('output'), refuse]),
    ...renderChain('filter-input', [
      hook('input'),
      ...refuseForeignQuestions(input),
      // Only our translation leads to the userspace proxy; who knocks directly finds nothing.
      'ct status dnat return',
      `tcp dport ${input.listenPort} drop`,
      `ip daddr ${input.syntheticRange} drop`,
    ]),
  ]
}

function renderUntracked({ dns }: RulesetInput): string[] {
  const hook = (name: string) => `type filter hook ${name} priority ${trackingPriority}; policy accept;`
  const rules =
    dns === undefined
      ? []
      : [
          `ip daddr ${dns.address} meta l4proto { tcp, udp } th dport ${dns.port} notrack`,
          `ip saddr ${dns.address} meta l4proto { tcp, udp } th sport ${dns.port} notrack`,
        ]
  return [
    ...renderChain('untracked-prerouting', [hook('prerouting'), ...rules]),
    ...renderChain('untracked-output', [hook('output'), ...rules]),
  ]
}

const skipForeign = (input: RulesetInput): string[] => fromForeign(input, 'return')

/** A neighbour may route the bridge address through this node. */
const refuseForeignQuestions = (input: RulesetInput): string[] =>
  input.dns === undefined ? [] : fromForeign(input, `ip daddr ${input.dns.address} drop`)

const fromForeign = ({ foreignInterfaces }: RulesetInput, statement: string): string[] =>
  foreignInterfaces.length === 0
    ? []
    : [`iifname { ${foreignInterfaces.map((name) => `"${name}"`).join(', ')} } ${statement}`]

const renderChain = (name: string, rules: readonly string[]): string[] => [
  `  chain ${name} {`,
  ...rules.map((rule) => `    ${rule}`),
  '  }',
]

function renderElements({ servicePorts, localBackends }: RulesetInput, slots: readonly number[]): string[] {
  const served = servicePorts.filter((entry) => entry.slots.length > 0)
  const refused = servicePorts.filter((entry) => entry.slots.length === 0)
  const addresses = new Set(served.flatMap(({ destinations }) => destinations.map(({ address }) => address)))
  return [
    ...renderFill('map', 'service', served.flatMap(serviceElementsOf)),
    ...slots.flatMap((slot) => renderFill('map', `slot-${slot}`, slotElementsOf(served, slot))),
    ...renderFill(
      'set',
      'refused',
      refused.flatMap(({ destinations }) => destinations.map(keyOf)),
    ),
    ...renderFill('set', 'cluster-addresses', [...addresses]),
    ...renderFill(
      'set',
      'hairpin',
      [...new Set(localBackends)].map((address) => `${address} . ${address}`),
    ),
  ]
}

const keyOf = ({ protocol, address, port }: Destination): string => `${protocol} . ${address} . ${port}`

const serviceElementsOf = ({ destinations, slots }: RuledServicePort): string[] =>
  destinations.map((destination) => `${keyOf(destination)} : jump slots-${slots.length}`)

function slotElementsOf(served: readonly RuledServicePort[], index: number): string[] {
  return served.flatMap(({ destinations, slots }) => {
    const slot = slots[index]
    if (slot === undefined) return []
    return destinations.map((destination) => `${keyOf(destination)} : ${slot.address} . ${slot.port}`)
  })
}

function renderFill(kind: 'map' | 'set', name: string, elements: readonly string[]): string[] {
  const flush = `flush ${kind} ${table} ${name}`
  if (elements.length === 0) return [flush]
  return [flush, `add element ${table} ${name} {`, ...elements.map((element) => `  ${element},`), '}']
}
