import { readFile } from 'node:fs/promises'
import { runCommand } from './command.ts'
import { CommandFailedError, MissingCommandError } from './errors.ts'

/** Chains that the Go system's agent makes in the NAT table; kube-proxy had the same names for its userspace mode. */
const portalChain = /^KUBE-(PORTALS|NODEPORT)-(CONTAINER|HOST)$/

/**
 * Removes the chains that an agent of the Go system left: those whose rules lead to the bridge address. They would
 * translate connections to a port where nobody listens any more. Returns their names.
 */
export async function sweepPortalChains(bridgeAddress: string, signal: AbortSignal): Promise<string[]> {
  const swept: string[] = []
  for (const kind of ['legacy', 'nft'] as const) {
    if (!(await (kind === 'legacy' ? isLegacyInUse() : hasPortals(signal)))) continue
    const rules = await listNat(kind, signal)
    const { lines, chains } = portalRemovals(rules, bridgeAddress)
    if (chains.length === 0) continue
    const input = ['*nat', ...lines, 'COMMIT', ''].join('\n')
    const command = `iptables-${kind}-restore`
    await runCommand({ command, arguments: ['-w', '5', '-n'], input, action: 'change the iptables rules' }, signal)
    swept.push(...chains.map((chain) => `iptables-${kind} ${chain}`))
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
  const jumps = rules.filter((rule) => !isInPortal(rule) && portals.some((name) => rule.endsWith(` -j ${name}`)))
  return {
    lines: [
      ...jumps.map((rule) => rule.replace(/^-A/, '-D')),
      ...portals.map((name) => `-F ${name}`),
      ...portals.map((name) => `-X ${name}`),
    ],
    chains: portals,
  }
}

/** Looking would load the kernel's old tables. */
async function isLegacyInUse(): Promise<boolean> {
  try {
    return (await readFile('/proc/net/ip_tables_names', 'utf8')).split('\n').includes('nat')
  } catch {
    return false
  }
}

/** Asking iptables-nft might make its table. */
async function hasPortals(signal: AbortSignal): Promise<boolean> {
  try {
    const words = ['list', 'chain', 'ip', 'nat', 'KUBE-PORTALS-CONTAINER']
    await runCommand({ command: 'nft', arguments: words, action: 'list the nftables ruleset' }, signal)
    return true
  } catch (error) {
    if (error instanceof CommandFailedError) return false
    throw error
  }
}

async function listNat(kind: 'legacy' | 'nft', signal: AbortSignal): Promise<string[]> {
  try {
    const words = ['-w', '5', '-t', 'nat', '-S']
    const command = { command: `iptables-${kind}`, arguments: words, action: 'list the iptables rules' }
    return (await runCommand(command, signal)).split('\n')
  } catch (error) {
    if (error instanceof MissingCommandError || error instanceof CommandFailedError) return []
    throw error
  }
}
