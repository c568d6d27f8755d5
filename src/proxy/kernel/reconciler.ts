import type { FirewallAccepts, HostRoutes, Kernel } from '../../linux/index.ts'
import type { Logger } from '../../observability/index.ts'
import { createIptablesKeeper } from './iptables-keeper.ts'
import type { KernelRules } from './kernel-rules.ts'
import type { RulesetInput } from './render-ruleset.ts'
import { type Around, createRulesetKeeper, type RulesetKeeper } from './ruleset-keeper.ts'

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

/** How to reconcile. */
export interface ReconcilerOptions {
  readonly logger: Logger
  /** What makes rules; nftables unless told otherwise. */
  readonly rules?: KernelRules
  /** A monotonic clock. */
  readonly nowMs?: () => number
}

/** The kernel stays the caller's. */
export function createKernelReconciler(
  kernel: Kernel,
  deviceName: string,
  options: ReconcilerOptions,
): KernelReconciler {
  const { logger, nowMs = () => performance.now() } = options
  let installedRoutes: HostRoutes | undefined
  let firewall: {
    readonly accepts: FirewallAccepts | undefined
    generation: number
    readonly checkedAtMs: number
  } = { accepts: undefined, generation: -1, checkedAtMs: Number.NEGATIVE_INFINITY }
  let openedChains: readonly string[] = []

  const rules = createKeeper(kernel, options, (before, after) => {
    // What follows from our own change of nftables is no news.
    if (firewall.generation === before) firewall.generation = after
  })
  const removeFormer = createFormerRemoval(kernel, options)

  const ensureFirewalls = async (accepts: FirewallAccepts, signal: AbortSignal): Promise<void> => {
    if (!canMarkAccepts(options)) return
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
      await removeFormer(signal)
      // A new object tells that the network changed, and with it maybe the routes.
      if (desired.hostRoutes !== installedRoutes)
        await kernel.network.setHostRoutes(deviceName, desired.hostRoutes, signal)
      installedRoutes = desired.hostRoutes
      await ensureFirewalls(desired.accepts, signal)
    },
    openedChains: () => openedChains,
  }
}

function createKeeper(
  { applier, conntrack }: Kernel,
  { logger, rules, nowMs = () => performance.now() }: ReconcilerOptions,
  onOwnChange: (before: number, after: number) => void,
): RulesetKeeper {
  if (rules?.kind !== 'iptables') return createRulesetKeeper({ applier, conntrack, logger, onOwnChange, nowMs })
  const { iptables, features } = rules
  const generation = (signal: AbortSignal) => applier.generation(signal)
  return createIptablesKeeper({ iptables, features, conntrack, logger, generation, nowMs })
}

/** Accepts that cannot be told from rules of others could never be removed again. */
const canMarkAccepts = ({ rules }: ReconcilerOptions): boolean => rules?.kind !== 'iptables' || rules.features.comment

/** Once, with the first look after our rules were made, so that the start need not wait: what an earlier run made goes. */
function createFormerRemoval(kernel: Kernel, { logger, rules }: ReconcilerOptions) {
  let calls = 0
  return async (signal: AbortSignal): Promise<void> => {
    calls += 1
    if (calls !== 2) return
    try {
      const removed = await kernel.removeRulesBut(rules?.kind === 'iptables' ? rules.iptables.kind : 'nftables', signal)
      const reason = removed.join(', ')
      if (reason !== '') logger.info({ reason }, 'removed rules that an earlier run made in another way')
    } catch (error) {
      logger.warn({ error }, 'rules that an earlier run made in another way may still be there')
    }
  }
}
