import { runCommand } from './command.ts'
import { CommandFailedError, MissingCommandError } from './errors.ts'
import { findIptables, isLegacyInUse, removalsOf } from './iptables.ts'

/** Chains that the Go system's agent makes in the NAT table; kube-proxy had the same names for its userspace mode. */
const portalChain = /^KUBE-(PORTALS|NODEPORT)-(CONTAINER|HOST)$/

/**
 * Removes the chains that an agent of the Go system left: those whose rules lead to the bridge address. They would
 * translate connections to a port where nobody listens any more. Returns their names.
 */
export async function sweepPortalChains(bridgeAddress: string, signal: AbortSignal): Promise<string[]> {
  const swept: string[] = []
  const mayBe = { legacy: isLegacyInUse('nat'), nft: await hasPortals(signal) }
  if (!mayBe.legacy && !mayBe.nft) return swept
  for (const iptables of await findIptables(signal)) {
    if (!mayBe[iptables.kind]) continue
    const { lines, chains } = portalRemovals(await iptables.list('nat', signal), bridgeAddress)
    if (chains.length === 0) continue
    await iptables.restore(['*nat', ...lines, 'COMMIT', ''].join('\n'), signal)
    swept.push(...chains.map((chain) => `iptables-${iptables.kind} ${chain}`))
  }
  return swept
}

/** What to restore, and the chains that go with it, for a NAT table as `iptables -S` prints it. */
export function portalRemovals(
  rules: readonly string[],
  bridgeAddress: string,
): { readonly lines: readonly string[]; readonly chains: readonly string[] } {
  const portals = rules.flatMap((rule) => /^-N (\S+)$/.exec(rule)?.[1] ?? []).filter((name) => portalChain.test(name))
  const isInPortal = (rule: string) => portals.some((name) => rule.startsWith(`-A ${name} `))
  const leadsToUs = (rule: string) => rule.includes(`--to-destination ${bridgeAddress}:`)
  if (!rules.some((rule) => isInPortal(rule) && leadsToUs(rule))) return { lines: [], chains: [] }
  return { lines: removalsOf(rules, (name) => portals.includes(name)), chains: portals }
}

/** Without nft it is iptables-nft itself that has to say, though asking might make its table. */
async function hasPortals(signal: AbortSignal): Promise<boolean> {
  try {
    const words = ['list', 'chain', 'ip', 'nat', 'KUBE-PORTALS-CONTAINER']
    await runCommand({ command: 'nft', arguments: words, action: 'list the nftables ruleset' }, signal)
    return true
  } catch (error) {
    if (error instanceof MissingCommandError) return true
    if (error instanceof CommandFailedError) return false
    throw error
  }
}
