import { type Iptables, RulesetRejectedError } from '../../linux/index.ts'

/** What iptables of a node can do beyond what every kernel can. */
export interface IptablesFeatures {
  /** Rules say what they are for, and accepts in firewalls of others can be told from theirs. */
  readonly comment: boolean
  /** Connections are spread over several endpoints. */
  readonly statistic: boolean
  /** Clients keep their endpoint. */
  readonly recent: boolean
  /** Client addresses are hashed. */
  readonly cluster: boolean
  /** Addresses of this node are told from others. */
  readonly addrtype: boolean
  /** Packets of DNS are not tracked. */
  readonly notrack: boolean
}

/** With everything that iptables has. */
export const allFeatures: IptablesFeatures = {
  comment: true,
  statistic: true,
  recent: true,
  cluster: true,
  addrtype: true,
  notrack: true,
}

/** How many endpoints client addresses are hashed over; shares of more would be too uneven. */
export const mostHashedSlots = 8

/** What follows where one of them is missing. */
const consequences: Readonly<Record<keyof IptablesFeatures, string>> = {
  comment:
    'the match "comment" is missing: rules do not say what they are for, and firewalls of others are left alone, even if they drop Service traffic',
  statistic: 'the match "statistic" is missing: Services with several endpoints go through the userspace proxy',
  recent: 'the match "recent" is missing: Services with session affinity go through the userspace proxy',
  cluster: 'the match "cluster" is missing: Services that hash client addresses go through the userspace proxy',
  addrtype:
    'the match "addrtype" is missing: node ports are not served, and some connections of this node itself to its own pods may get no answer',
  notrack: 'the target "CT" is missing: the kernel tracks each question to cluster DNS',
}

/** What these features cannot do, in sentences for people. */
export function limitsOf(features: IptablesFeatures): string[] {
  const missing = (Object.keys(consequences) as (keyof IptablesFeatures)[]).filter((name) => !features[name])
  const hashing = `Services that hash client addresses over more than ${mostHashedSlots} endpoints go through the userspace proxy`
  return [...missing.map((name) => consequences[name]), ...(features.cluster ? [hashing] : [])]
}

/** What the rest of the rules needs everywhere; a kernel without it cannot serve. */
const needed: readonly Sample[] = [
  ['filter', '-p tcp -m tcp --dport 80 -m conntrack --ctstate NEW,DNAT --ctorigdst 192.0.2.1/32 -j DROP'],
  ['filter', '-p tcp -j REJECT --reject-with tcp-reset'],
  ['filter', '-j REJECT --reject-with icmp-port-unreachable'],
  ['nat', '-d 0.0.0.1/0.0.0.63 -p udp -m udp --dport 80 -j DNAT --to-destination 192.0.2.1:80'],
  ['nat', '-m conntrack --ctorigdst 192.0.2.1/32 --ctorigdstport 80 -j MASQUERADE'],
]

const optional: Readonly<Record<keyof IptablesFeatures, readonly Sample[]>> = {
  comment: [
    ['nat', '-m comment --comment "shop/web:80/tcp" -j RETURN'],
    ['filter', '-m comment --comment "edgemesh" -j RETURN'],
  ],
  statistic: [
    ['nat', '-m statistic --mode random --probability 0.5 -j RETURN'],
    ['nat', '-m statistic --mode nth --every 2 --packet 0 -j RETURN'],
  ],
  recent: [
    ['nat', '-m recent --name EDGEMESH-PROBE --update --seconds 10 --reap -j RETURN'],
    ['nat', '-m recent --name EDGEMESH-PROBE --set -j RETURN'],
  ],
  cluster: [['nat', '-m cluster --cluster-total-nodes 32 --cluster-local-node 1 --cluster-hash-seed 0x656d -j RETURN']],
  addrtype: [
    ['nat', '-m addrtype --dst-type LOCAL -j RETURN'],
    ['mangle', '-m addrtype --dst-type LOCAL -j RETURN'],
    ['nat', '-m addrtype --src-type LOCAL -m addrtype ! --src-type LOCAL --limit-iface-out -j MASQUERADE'],
  ],
  notrack: [['raw', '-p udp -m udp --dport 53 -j CT --notrack']],
}

/** A table and a rule. */
type Sample = readonly [table: string, rule: string]

/**
 * Finds out by trying: kernels are built with and without single modules. Rejects with `RulesetRejectedError` when not
 * even the least can be done.
 */
export async function probeFeatures(iptables: Iptables, signal: AbortSignal): Promise<IptablesFeatures> {
  const takes = (samples: readonly Sample[]) => takesSamples(iptables, samples, signal)
  if (await takes([...needed, ...Object.values(optional).flat()])) return allFeatures
  await tryOut(iptables, needed, signal)
  return {
    comment: await takes(optional.comment),
    statistic: await takes(optional.statistic),
    recent: await takes(optional.recent),
    cluster: await takes(optional.cluster),
    addrtype: await takes(optional.addrtype),
    notrack: await takes(optional.notrack),
  }
}

async function takesSamples(iptables: Iptables, samples: readonly Sample[], signal: AbortSignal): Promise<boolean> {
  try {
    await tryOut(iptables, samples, signal)
    return true
  } catch (error) {
    if (error instanceof RulesetRejectedError) return false
    throw error
  }
}

/** In a chain that nothing leads to, which is gone again at the end. `--test` would not ask the kernel. */
async function tryOut(iptables: Iptables, samples: readonly Sample[], signal: AbortSignal): Promise<void> {
  const chain = 'EDGEMESH-PROBE'
  const tables = [...new Set(samples.map(([table]) => table))]
  const blocks = (linesOf: (table: string) => readonly string[]) =>
    tables.map((table) => `*${table}\n:${chain} - [0:0]\n${linesOf(table).join('\n')}\nCOMMIT\n`).join('')
  try {
    await iptables.restore(
      blocks((table) => samples.filter(([where]) => where === table).map(([, rule]) => `-A ${chain} ${rule}`)),
      signal,
    )
  } finally {
    await iptables
      .restore(
        blocks(() => [`-X ${chain}`]),
        signal,
      )
      .catch(() => {})
  }
}
