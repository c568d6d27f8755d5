import type { IptablesTable } from '../../linux/index.ts'
import {
  type AddressMatch,
  type AddressRule,
  bucketedChains,
  byDestination,
  byOriginalDestination,
} from './iptables-buckets.ts'
import type { IptablesFeatures } from './iptables-features.ts'
import { type IptablesPart, iptablesPartOf, refusing, translating } from './iptables-parts.ts'
import type { Chains, IptablesRules } from './iptables-text.ts'
import type { RulesetInput } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

/** Renders again and again; what a ServicePort that did not change adds is not rendered anew. */
export type IptablesRendering = (input: RulesetInput) => IptablesRules

/**
 * The rules that make ServicePorts reachable, for iptables: the same as the table of nftables holds (`rulesetOf`), in
 * chains that are searched from top to bottom.
 *
 * ```
 *   PREROUTING, OUTPUT ─ EDGEMESH-SERVICES ─┬─ EDGEMESH-CLUSTER ── destination -> EDGEMESH-S-*, or DNAT
 *                                           ├─ EDGEMESH-EXTERNAL
 *                                           └─ EDGEMESH-NODEPORTS
 *   EDGEMESH-S-*: one rule for each slot, with what chooses it -> DNAT
 * ```
 *
 * The table nat cannot drop; what is dropped is dropped in mangle, before translation.
 */
export function createIptablesRendering(features: IptablesFeatures): IptablesRendering {
  const known = new WeakMap<RuledServicePort, IptablesPart>()
  const partOf = (entry: RuledServicePort): IptablesPart => {
    const part = known.get(entry) ?? iptablesPartOf(entry, features)
    known.set(entry, part)
    return part
  }
  return (input) => {
    const parts = [...input.servicePorts.values()].map(partOf)
    const mangle = mangleChains(input, parts)
    const raw = rawChains(input, features)
    return new Map<IptablesTable, Chains>([
      ...(raw.size === 0 ? [] : [['raw', raw] as const]),
      ...(mangle.size === 0 ? [] : [['mangle', mangle] as const]),
      ['nat', new Map([...translationChains(input, parts), ...sourceChains(input, parts, features)])],
      ['filter', filterChains(input, parts)],
    ])
  }
}

function translationChains(input: RulesetInput, parts: readonly IptablesPart[]): Chains {
  const toThisNode = '! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL'
  const [nodePorts, outsidePorts, loopback] = [
    listed(parts, 'nodePorts'),
    listed(parts, 'outsidePorts'),
    listed(parts, 'loopback'),
  ]
  const hasPorts = nodePorts.length > 0
  const external = addressed(parts, 'external')
  const outside = addressed(parts, 'outside')
  const toExternal = external.length > 0 ? ['-j EDGEMESH-EXTERNAL'] : []
  // Synthetic addresses are local, but nobody's node port.
  const notSynthetic = `-d ${input.syntheticRange} -j RETURN`
  return new Map([
    ['EDGEMESH-PREROUTING', [...fromForeign(input, '-g EDGEMESH-OUTSIDE'), '-j EDGEMESH-SERVICES']],
    ['EDGEMESH-OUTPUT', ['-j EDGEMESH-SERVICES']],
    [
      'EDGEMESH-SERVICES',
      [
        '-j EDGEMESH-CLUSTER',
        ...toExternal,
        ...(hasPorts ? [`${toThisNode} -j EDGEMESH-NODEPORTS`] : []),
        // A packet from a loopback address cannot leave it.
        ...(loopback.length > 0 ? ['-d 127.0.0.0/8 -j EDGEMESH-LOOPBACK'] : []),
      ],
    ],
    [
      'EDGEMESH-OUTSIDE',
      [
        ...(outside.length > 0 ? ['-j EDGEMESH-OUT-EXTERNAL'] : []),
        ...toExternal,
        ...(outsidePorts.length > 0 ? [`${toThisNode} -j EDGEMESH-OUT-PORTS`] : []),
        ...(hasPorts ? [`${toThisNode} -j EDGEMESH-NODEPORTS`] : []),
        ...(input.servesForeign ? ['-j EDGEMESH-CLUSTER'] : []),
      ],
    ],
    ...bucketedChains('EDGEMESH-CLUSTER', addressed(parts, 'cluster'), byDestination),
    ...bucketedUnlessEmpty('EDGEMESH-EXTERNAL', external, byDestination),
    ...bucketedUnlessEmpty('EDGEMESH-OUT-EXTERNAL', outside, byDestination),
    ...unlessEmpty('EDGEMESH-NODEPORTS', nodePorts, notSynthetic),
    ...unlessEmpty('EDGEMESH-OUT-PORTS', outsidePorts, notSynthetic),
    ...unlessEmpty('EDGEMESH-LOOPBACK', loopback),
    ...parts.flatMap(({ choices }) => [...choices]),
  ])
}

/** As `sourceTranslationChains` of nftables; here what is rare is asked first. */
function sourceChains({ switchedNetworks }: RulesetInput, parts: readonly IptablesPart[], features: IptablesFeatures) {
  const elsewhere = '-m addrtype --src-type LOCAL -m addrtype ! --src-type LOCAL --limit-iface-out'
  const ports = [...new Set(listed(parts, 'translatedPorts'))]
  const buckets = bucketedChains(translating, distinct(addressed(parts, 'translated')), byOriginalDestination)
  buckets.set(translating, [...(buckets.get(translating) ?? []), ...ports])
  return new Map([
    [
      'EDGEMESH-POSTROUTING',
      [
        '-o lo -j RETURN',
        '-m conntrack ! --ctstate DNAT -j RETURN',
        ...switchedNetworks.map((network) => `-s ${network} -d ${network} -j ${translating}`),
        ...(features.addrtype ? [`${elsewhere} -j ${translating}`] : []),
        ...new Set(listed(parts, 'hairpins')),
      ],
    ],
    ...buckets,
  ])
}

function filterChains(input: RulesetInput, parts: readonly IptablesPart[]): Chains {
  const { bridgeAddress, listenPorts, syntheticRange } = input
  const refused = addressed(parts, 'refused')
  const external = addressed(parts, 'refusedExternal')
  const ports = listed(parts, 'refusedPorts')
  const toRefused = refused.length > 0 ? ['-j EDGEMESH-REFUSED'] : []
  const toExternal = external.length > 0 ? ['-j EDGEMESH-REFUSED-EXT'] : []
  const skipForeign = input.servesForeign ? [] : fromForeign(input, '-j RETURN')
  return new Map([
    ['EDGEMESH-FORWARD', [skipEstablished, ...toExternal, ...skipForeign, ...toRefused]],
    ['EDGEMESH-OUTPUT', [skipEstablished, ...toRefused, ...toExternal]],
    [
      'EDGEMESH-INPUT',
      [
        // A neighbour may route the bridge address through this node.
        ...fromForeign(input, `-d ${bridgeAddress}/32 -j DROP`),
        // Only our translation leads to the userspace proxy; who knocks directly finds nothing.
        '-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j RETURN',
        ...toExternal,
        ...(ports.length > 0 ? ['-j EDGEMESH-REFUSED-PORTS'] : []),
        ...listenPorts.map((port) => `-p tcp -m tcp --dport ${port} -j DROP`),
        `-d ${syntheticRange} -j DROP`,
      ],
    ],
    [refusing, ['-p tcp -j REJECT --reject-with tcp-reset', '-j REJECT --reject-with icmp-port-unreachable']],
    ...bucketedUnlessEmpty('EDGEMESH-REFUSED', refused, byDestination),
    ...bucketedUnlessEmpty('EDGEMESH-REFUSED-EXT', external, byDestination),
    ...unlessEmpty('EDGEMESH-REFUSED-PORTS', ports),
  ])
}

/** Whom load balancers are not for, and whom no endpoint of this node is for. */
function mangleChains(input: RulesetInput, parts: readonly IptablesPart[]): Chains {
  const guarded = listed(parts, 'guarded')
  const dropped = listed(parts, 'dropped')
  if (guarded.length + dropped.length === 0) return new Map()
  const onlyNew = '-m conntrack ! --ctstate NEW -j RETURN'
  const toDropped = dropped.length > 0 ? fromForeign(input, '-j EDGEMESH-DROPPED') : []
  return new Map([
    ['EDGEMESH-PREROUTING', [onlyNew, ...guarded, ...toDropped]],
    ['EDGEMESH-OUTPUT', [onlyNew, ...guarded]],
    ...unlessEmpty('EDGEMESH-DROPPED', dropped),
    ...parts.flatMap(({ guards }) => [...guards]),
  ])
}

function rawChains({ dns }: RulesetInput, features: IptablesFeatures): Chains {
  if (dns === undefined || !features.notrack) return new Map()
  const rules = ['udp', 'tcp'].flatMap((protocol) => [
    `-d ${dns.address}/32 -p ${protocol} -m ${protocol} --dport ${dns.port} -j CT --notrack`,
    `-s ${dns.address}/32 -p ${protocol} -m ${protocol} --sport ${dns.port} -j CT --notrack`,
  ])
  return new Map([
    ['EDGEMESH-PREROUTING', rules],
    ['EDGEMESH-OUTPUT', rules],
  ])
}

/** A refused connection is never established; the many packets of the others are not looked up. */
const skipEstablished = '-m conntrack --ctstate RELATED,ESTABLISHED -j RETURN'

const fromForeign = ({ foreignInterfaces }: RulesetInput, statement: string): string[] =>
  foreignInterfaces.map((name) => `-i ${name} ${statement}`)

type KeyOf<T> = { [K in keyof IptablesPart]: IptablesPart[K] extends T ? K : never }[keyof IptablesPart]

function listed(parts: readonly IptablesPart[], key: KeyOf<string[]>): string[] {
  return parts.flatMap((part) => part[key])
}

function addressed(parts: readonly IptablesPart[], key: KeyOf<AddressRule[]>): AddressRule[] {
  return parts.flatMap((part) => part[key])
}

/** Ports of a Service share its address. */
function distinct(rules: readonly AddressRule[]): AddressRule[] {
  return [...new Map(rules.map((rule) => [rule.address, rule])).values()]
}

function bucketedUnlessEmpty(
  name: string,
  rules: readonly AddressRule[],
  match: AddressMatch,
): [string, readonly string[]][] {
  return rules.length === 0 ? [] : [...bucketedChains(name, rules, match)]
}

const unlessEmpty = (name: string, rules: readonly string[], ...first: string[]): [string, readonly string[]][] =>
  rules.length === 0 ? [] : [[name, [...first, ...rules]]]
