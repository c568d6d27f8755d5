import type { Logger } from '../observability/index.ts'
import { cleanUp, type RulesKind, removeRulesBut } from './clean-up.ts'
import { type Conntrack, createConntrack } from './conntrack.ts'
import { createForeignFirewalls, type ForeignFirewalls } from './foreign-firewall.ts'
import { findIptables, type Iptables } from './iptables.ts'
import type { NativeFunctions } from './native-functions.ts'
import { createRulesetApplier } from './nft-ruleset-applier.ts'
import type { NodeNetwork } from './node-network.ts'
import { sweepPortalChains } from './portal-chains.ts'
import { createSetReader, type SetReader } from './refusals.ts'
import { createNodeNetwork } from './rt-node-network.ts'
import type { RulesetApplier } from './ruleset-applier.ts'

/** All parts of the kernel that interception needs, in the network namespace of this process. */
export interface Kernel extends Disposable {
  readonly applier: RulesetApplier
  readonly network: NodeNetwork
  readonly firewalls: ForeignFirewalls
  readonly conntrack: Conntrack
  readonly sets: SetReader
  /** The iptables commands of this machine; see `findIptables`. */
  findIptables(signal: AbortSignal): Promise<readonly Iptables[]>
  /** Removes rules of ours that an earlier run made in another way; see `removeRulesBut`. */
  removeRulesBut(kind: RulesKind, signal: AbortSignal): Promise<readonly string[]>
  /** Removes what an agent of the Go system left; see `sweepPortalChains`. */
  sweepPortalChains(bridgeAddress: string, signal: AbortSignal): Promise<readonly string[]>
  /** Removes everything of ours; see `cleanUp`. */
  cleanUp(signal: AbortSignal): Promise<void>
}

/**
 * Opens the netlink sockets; rejects when the library for them cannot be loaded. Without native functions each change
 * costs a process of nft.
 */
export async function openKernel(
  names: { readonly table: string; readonly deviceName: string },
  logger: Logger,
  native: NativeFunctions | undefined,
): Promise<Kernel> {
  const network = await createNodeNetwork(logger)
  const applier = await createRulesetApplier(names.table, { native, logger })
  const conntrack = await createConntrack()
  const sets = await createSetReader(names.table)
  return {
    applier,
    network,
    conntrack,
    sets,
    firewalls: createForeignFirewalls(names.table),
    findIptables,
    removeRulesBut: (kind, signal) => removeRulesBut(kind, names.table, signal),
    sweepPortalChains,
    cleanUp: (signal) => cleanUp(names, signal),
    [Symbol.dispose]() {
      sets[Symbol.dispose]()
      conntrack[Symbol.dispose]()
      applier[Symbol.dispose]()
      network[Symbol.dispose]()
    },
  }
}
