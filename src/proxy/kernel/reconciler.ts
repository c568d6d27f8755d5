import type { FirewallAccepts, HostRoutes, Kernel } from '../../linux/index.ts'
import type { Logger } from '../../observability/index.ts'
import type { RulesetInput } from './render-ruleset.ts'
import { type Around, createRulesetKeeper } from './ruleset-keeper.ts'

/** What the kernel should hold. */
export interface DesiredKernelState {
  /** The same object as long as nothing about it changed. */
  readonly rules: RulesetInput
  /** The same objects as long as nothing about them changed. */
  readonly accepts: FirewallAccepts
  readonly hostRoutes: HostRoutes
}

/** Makes the kernel equal to a desired state, with as little work as the state of things allows. */
export interface KernelReconciler {
  /**
   * Does nothing where the kernel is as wanted. `around` runs the actual change of the ruleset, so that the caller
   * can prepare for it and clear up after it; it is not called when there is nothing to change.
   */
  reconcile(desired: DesiredKernelState, around: Around, signal: AbortSignal): Promise<void>
  /** Firewall chains of others that hold our accepts. */
  openedChains(): readonly string[]
}

/** Changes of iptables-legacy show nowhere, so it is looked at from time to time. */
const firewallCheckIntervalMs = 5_000

/** `nowMs` is a monotonic clock. */
export function createKernelReconciler(
  kernel: Kernel,
  deviceName: string,
  { logger, nowMs = () => performance.now() }: { readonly logger: Logger; readonly nowMs?: () => number },
): KernelReconciler {
  let installedRoutes: HostRoutes | undefined
  let firewall: {
    readonly accepts: FirewallAccepts | undefined
    generation: number
    readonly checkedAtMs: number
  } = { accepts: undefined, generation: -1, checkedAtMs: Number.NEGATIVE_INFINITY }
  let openedChains: readonly string[] = []

  const rules = createRulesetKeeper({
    applier: kernel.applier,
    conntrack: kernel.conntrack,
    logger,
    // What follows from our own change of nftables is no news.
    onOwnChange(before, after) {
      if (firewall.generation === before) firewall.generation = after
    },
  })

  const ensureFirewalls = async (accepts: FirewallAccepts, signal: AbortSignal): Promise<void> => {
    // Read before looking: a change in between is then seen next time.
    const generation = await rules.generation(signal)
    const isDue = nowMs() - firewall.checkedAtMs >= firewallCheckIntervalMs
    if (accepts === firewall.accepts && generation === firewall.generation && !isDue) return
    const chains = await kernel.firewalls.ensureAccepts(accepts, signal)
    firewall = { accepts, generation, checkedAtMs: nowMs() }
    if (chains.join() !== openedChains.join() && chains.length > 0) {
      logger.info({ reason: chains.join(', ') }, 'firewall chains of others would drop Service traffic; added accepts')
    }
    openedChains = chains
  }

  return {
    async reconcile(desired, around, signal) {
      await rules.keep(desired.rules, around, signal)
      // A new object tells that the network changed, and with it maybe the routes.
      if (desired.hostRoutes !== installedRoutes)
        await kernel.network.setHostRoutes(deviceName, desired.hostRoutes, signal)
      installedRoutes = desired.hostRoutes
      await ensureFirewalls(desired.accepts, signal)
    },
    openedChains: () => openedChains,
  }
}
