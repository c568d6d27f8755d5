import type { ReadableMap } from '../../runtime/index.ts'
import type { NftContainer, NftTable } from './nft-table.ts'
import { elementsOf, lookups, type RuledServicePort, sharedKeysOf, stickySetOf } from './ruled-service-port.ts'
import { affinityMap, choosingChains, createNeeds, type RulesetNeeds, slotMaps } from './ruleset-needs.ts'

/** All that the ruleset depends on. */
export interface RulesetInput {
  /** By id; the same object as long as nothing about it changed. */
  readonly servicePorts: ReadableMap<RuledServicePort>
  readonly syntheticRange: string
  /** Ports of the userspace proxy. */
  readonly listenPorts: readonly number[]
  /** The address of the bridge device, at which this node answers DNS and SOCKS5: to itself and its pods alone. */
  readonly bridgeAddress: string
  /** Where this node answers DNS; its packets need no connection tracking. */
  readonly dns?: { readonly address: string; readonly port: number } | undefined
  /** Interfaces that lead to other machines: who comes from there is outside, and may not use ClusterIPs. */
  readonly foreignInterfaces: readonly string[]
  /** Whether who comes from outside may use ClusterIPs all the same. */
  readonly servesForeign: boolean
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
 * Round robin and hashing have a chain for each ServicePort, which translates by itself; affinity looks first whether
 * the client was here before. External addresses and node ports have lookups of their own.
 *
 * One map for all slots, with the random number in its key, would need a declaration by `typeof`; nft 1.0.6 then adds
 * a match on TCP to the first rule that uses it.
 */
export function rulesetOf(input: RulesetInput): Ruleset {
  return createRulesets()(input)
}

/** The same again and again; costs what changed. */
export function createRulesets(): (input: RulesetInput) => Ruleset {
  const needsOf = createNeeds()
  return (input) => rulesetFor(input, needsOf(input.servicePorts))
}

function rulesetFor(input: RulesetInput, needs: RulesetNeeds): Ruleset {
  return {
    containers: containersOf(needs),
    chains: new Map([
      ...choosingChains(needs),
      ...translationChains(input, needs),
      ...sourceTranslationChains(input, needs),
      ...filterChains(input, needs),
      ...stickyChains(needs),
      ...untrackedChains(input),
    ]),
    parts: input.servicePorts,
    elementsOf,
    sharedKeysOf,
  }
}

type Chain = readonly [name: string, rules: readonly string[]]

const addressKey = 'inet_proto . ipv4_addr . inet_service'
const portKey = 'inet_proto . inet_service'
const byAddress = 'meta l4proto . ip daddr . th dport'
const byPort = 'meta l4proto . th dport'

function containersOf(needs: RulesetNeeds): Map<string, NftContainer> {
  const containers = new Map<string, NftContainer>([
    [lookups.service, { kind: 'map', shape: [`type ${addressKey} : verdict`] }],
    ...slotMaps(needs),
    [lookups.refused, { kind: 'set', shape: [`type ${addressKey}`] }],
    [lookups.addresses, { kind: 'set', shape: ['type ipv4_addr'], isShared: true }],
    [lookups.hairpin, { kind: 'set', shape: ['type ipv4_addr . ipv4_addr'], isShared: true }],
    [lookups.refusing, { kind: 'set', shape: refusingShape, isDynamic: true }],
    [lookups.contacted, { kind: 'set', shape: contactedShape, isDynamic: true }],
  ])
  if (needs.hasExternal) {
    for (const name of [lookups.external, lookups.outside]) {
      containers.set(name, { kind: 'map', shape: [`type ${addressKey} : verdict`] })
    }
    containers.set(lookups.refusedExternal, { kind: 'set', shape: [`type ${addressKey}`] })
  }
  if (needs.hasNodePorts) {
    for (const name of [lookups.nodePort, lookups.outsidePort]) {
      containers.set(name, { kind: 'map', shape: [`type ${portKey} : verdict`] })
    }
    containers.set(lookups.nodePorts, { kind: 'set', shape: [`type ${portKey}`] })
    containers.set(lookups.refusedPort, { kind: 'set', shape: [`type ${portKey}`] })
    containers.set(lookups.loopback, { kind: 'map', shape: [`type ${portKey} : ipv4_addr . inet_service`] })
  }
  if (needs.hasGuards) {
    containers.set(lookups.guarded, { kind: 'set', shape: [`type ${addressKey}`] })
    containers.set(lookups.sourceRanges, { kind: 'set', shape: [`type ${addressKey} . ipv4_addr`, 'flags interval'] })
  }
  for (const { seconds, isPort } of needs.stickySets) {
    containers.set(stickySetOf(seconds, isPort), { kind: 'set', shape: [`type ${isPort ? portKey : addressKey}`] })
  }
  if (needs.stickySets.length > 0) containers.set(...affinityMap)
  return containers
}

function translationChains(input: RulesetInput, needs: RulesetNeeds): Chain[] {
  const hook = (name: string) => `type nat hook ${name} priority ${translationPriority}; policy accept;`
  // Synthetic addresses are local, but nobody's node port.
  const toThisNode = `fib daddr type local ip daddr != { 127.0.0.0/8, ${input.syntheticRange} }`
  const guard = [`${byAddress} @${lookups.guarded} ${byAddress} . ip saddr != @${lookups.sourceRanges} drop`]
  const external = [`${byAddress} vmap @${lookups.external}`]
  const nodePort = [`${toThisNode} ${byPort} vmap @${lookups.nodePort}`]
  return [
    [
      'services',
      [
        ...(needs.hasGuards ? guard : []),
        `${byAddress} vmap @${lookups.service}`,
        ...(needs.hasExternal ? external : []),
        ...(needs.hasNodePorts ? nodePort : []),
        // A packet from a loopback address cannot leave it.
        ...(needs.hasNodePorts ? [`ip daddr 127.0.0.0/8 dnat ip to ${byPort} map @${lookups.loopback}`] : []),
      ],
    ],
    [
      'outside',
      [
        ...(needs.hasGuards ? guard : []),
        ...(needs.hasExternal ? [`${byAddress} vmap @${lookups.outside}`, ...external] : []),
        ...(needs.hasNodePorts ? [`${toThisNode} ${byPort} vmap @${lookups.outsidePort}`, ...nodePort] : []),
        ...(input.servesForeign ? [`${byAddress} vmap @${lookups.service}`] : []),
      ],
    ],
    ['prerouting', [hook('prerouting'), ...fromForeign(input, 'goto outside'), 'jump services']],
    ['output', [hook('output'), 'jump services']],
  ]
}

/**
 * Answers must come back through this node. They would not when client and endpoint are the same, when a bridge
 * hands the answer straight to the client, or when a process chose a source address that the endpoint reaches
 * by another way. Everybody else keeps the address.
 */
function sourceTranslationChains({ switchedNetworks }: RulesetInput, { hasNodePorts }: RulesetNeeds): Chain[] {
  const rules = [
    'oifname "lo" return',
    'ip saddr . ip daddr @hairpin masquerade',
    ...switchedNetworks.map((network) => `ip saddr ${network} ip daddr ${network} masquerade`),
    'fib saddr type local fib saddr . oif type != local masquerade',
  ]
  const ports = ['tcp', 'udp'].map((protocol) => {
    const key = 'meta l4proto . ct original proto-dst'
    return `ct status dnat meta l4proto ${protocol} ${key} @${lookups.nodePorts} goto sources`
  })
  return [
    [
      'postrouting',
      [
        `type nat hook postrouting priority ${sourcePriority}; policy accept;`,
        `ct original ip daddr @${lookups.addresses} goto sources`,
        ...(hasNodePorts ? ports : []),
      ],
    ],
    ['sources', rules],
  ]
}

function filterChains(input: RulesetInput, needs: RulesetNeeds): Chain[] {
  const hook = (name: string) => `type filter hook ${name} priority ${filterPriority}; policy accept;`
  const refuse = `${byAddress} @${lookups.refused} goto refuse`
  const external = needs.hasExternal ? [`${byAddress} @${lookups.refusedExternal} goto refuse`] : []
  const nodePorts = needs.hasNodePorts ? [`${byPort} @${lookups.refusedPort} goto refuse`] : []
  const skipForeign = input.servesForeign ? [] : fromForeign(input, 'return')
  return [
    ['refuse', ['meta l4proto tcp reject with tcp reset', 'reject with icmp type port-unreachable']],
    [
      'filter-forward',
      [hook('forward'), noteRefusal, ...unlessEstablished(input), ...external, ...skipForeign, refuse],
    ],
    ['filter-output', [hook('output'), ...unlessEstablished(input), refuse, ...external]],
    [
      'filter-input',
      [
        hook('input'),
        noteRefusal,
        ...refuseForeignQuestions(input),
        // Only our translation leads to the userspace proxy; who knocks directly finds nothing.
        'ct status dnat return',
        ...[...external, ...nodePorts].map((rule) => `ct state new ${rule}`),
        `tcp dport { ${input.listenPorts.join(', ')} } drop`,
        `ip daddr ${input.syntheticRange} drop`,
      ],
    ],
  ]
}

/**
 * Writes down which slot a client got, where the kernel has translated already: the key is what the client asked for,
 * the value where it was sent. A later connection finds that before it comes to a choice.
 */
function stickyChains({ stickySets }: RulesetNeeds): Chain[] {
  if (stickySets.length === 0) return []
  const hook = (name: string) => `type filter hook ${name} priority ${filterPriority}; policy accept;`
  const asked = 'meta l4proto . ct original ip daddr . ct original proto-dst'
  const rules = stickySets.flatMap(({ seconds, isPort }) => {
    // The port of another Service at its ClusterIP may have the same number.
    const key = isPort ? `ct original ip daddr != @${lookups.addresses} meta l4proto . ct original proto-dst` : asked
    const element = `${asked} . ct original ip saddr timeout ${seconds}s : ip daddr . th dport`
    return ['tcp', 'udp'].map(
      (protocol) => `meta l4proto ${protocol} ${key} @${stickySetOf(seconds, isPort)} update @affinity { ${element} }`,
    )
  })
  const remember = [skipEstablished, 'ct status dnat jump remember']
  return [
    ['remember', rules],
    ['sticky-postrouting', [hook('postrouting'), ...remember]],
    ['sticky-input', [hook('input'), ...remember]],
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

/** Who answered a translated connection with a reset instead of taking it, for a moment: such a reset has sequence 0. */
const noteRefusal =
  'tcp flags & (syn | rst | ack) == rst | ack tcp sequence 0 ct direction reply ct status dnat ' +
  `add @${lookups.refusing} { ip saddr . tcp sport }`

const refusingShape = ['type ipv4_addr . inet_service', 'flags dynamic,timeout', 'timeout 2s', 'size 1024']

const contactedShape = ['type ipv4_addr', 'flags dynamic,timeout', 'timeout 2s', 'size 4096']

/**
 * Notes for a moment to which endpoints connections begin, so that those which nobody uses need not be asked all the time who
 * they are. UDP has no beginning that matters: its flows follow the rules, so each datagram of a client counts.
 */
function unlessEstablished({ syntheticRange }: RulesetInput): string[] {
  const note = `ct status dnat ip daddr != ${syntheticRange} add @${lookups.contacted} { ip daddr }`
  return [`meta l4proto udp ct direction original ${note}`, skipEstablished, note]
}

/** A refused connection is never established; the many packets of the others are not looked up. */
const skipEstablished = 'ct state established,related return'

/** A neighbour may route the bridge address through this node. */
const refuseForeignQuestions = (input: RulesetInput): string[] =>
  fromForeign(input, `ip daddr ${input.bridgeAddress} drop`)

const fromForeign = ({ foreignInterfaces }: RulesetInput, statement: string): string[] =>
  foreignInterfaces.length === 0
    ? []
    : [`iifname { ${foreignInterfaces.map((name) => `"${name}"`).join(', ')} } ${statement}`]
