import {
  type Iptables,
  type Kernel,
  MissingCommandError,
  NotPermittedError,
  RulesetRejectedError,
} from '../../linux/index.ts'
import { describeError, type Logger } from '../../observability/index.ts'
import { type IptablesFeatures, limitsOf, mostHashedSlots, probeFeatures } from './iptables-features.ts'
import { replacementOf } from './nft-table.ts'
import { rulesetOf } from './render-ruleset.ts'
import { sampleRules } from './sample-rules.ts'

/** What puts our rules into the kernel, as found at the start. */
export type KernelRules = {
  readonly status: KernelRulesStatus
  /** Absent where rules can do everything. */
  readonly limits?: KernelLimits
} & (
  | { readonly kind: 'nftables' }
  | { readonly kind: 'iptables'; readonly iptables: Iptables; readonly features: IptablesFeatures }
)

/** What status says about it. */
export interface KernelRulesStatus {
  readonly kind: 'nftables' | 'iptables'
  /** Which iptables: `iptables v1.8.9 (legacy)`. */
  readonly version?: string
  /** Why this one. */
  readonly reason: string
  /** What cannot be done with it, in sentences. */
  readonly limits: readonly string[]
}

/** What rules of this kind cannot do, so that the userspace proxy does it. */
export interface KernelLimits {
  readonly spreads: boolean
  readonly keepsClients: boolean
  /** How many endpoints client addresses are hashed over at most. */
  readonly hashedSlots: number
}

/**
 * Tries nftables with rules of every shape that we write, and iptables where that does not work or iptables is asked for.
 * Rejects when neither works, with what nftables said, or when the user may not change rules.
 */
export async function chooseKernelRules(
  kernel: Pick<Kernel, 'applier' | 'findIptables'>,
  wanted: 'auto' | 'nftables' | 'iptables',
  { logger }: { readonly logger: Logger },
  signal: AbortSignal,
): Promise<KernelRules> {
  const chosen = await choose(kernel, wanted, signal)
  const { kind, version = kind, reason, limits } = chosen.status
  if (kind === 'nftables') logger.info({ version, reason }, 'rules for Services are made with nftables')
  else logger.warn({ version, reason }, 'rules for Services are made with iptables')
  for (const limit of limits) logger.warn({ reason: limit }, 'iptables cannot do all that nftables can')
  return chosen
}

/** Rules of nftables. */
export const nftablesRules = (reason: string): KernelRules => ({
  kind: 'nftables',
  status: { kind: 'nftables', reason, limits: [] },
})

/** Rules of iptables, with what it turned out to have. */
export function iptablesRules(iptables: Iptables, features: IptablesFeatures, reason: string): KernelRules {
  const { statistic, recent, cluster } = features
  return {
    kind: 'iptables',
    iptables,
    features,
    status: { kind: 'iptables', version: iptables.version, reason, limits: limitsOf(features) },
    limits: {
      spreads: statistic,
      keepsClients: statistic && recent,
      hashedSlots: statistic && cluster ? mostHashedSlots : 1,
    },
  }
}

async function choose(
  kernel: Pick<Kernel, 'applier' | 'findIptables'>,
  wanted: 'auto' | 'nftables' | 'iptables',
  signal: AbortSignal,
): Promise<KernelRules> {
  if (wanted === 'iptables') return await tryIptables(kernel, 'edgeProxy.kernel says so', signal)
  try {
    await kernel.applier.check(replacementOf(rulesetOf(sampleRules)).text(), signal)
    const reason = wanted === 'nftables' ? 'edgeProxy.kernel says so' : 'nft and the kernel take all rules'
    return nftablesRules(reason)
  } catch (error) {
    if (wanted === 'nftables' || error instanceof NotPermittedError) throw error
    signal.throwIfAborted()
    return await tryIptables(kernel, describeError(error), signal, error)
  }
}

/** Rejects with `instead`, when it is given, where there is no iptables at all. */
async function tryIptables(
  { findIptables }: Pick<Kernel, 'findIptables'>,
  reason: string,
  signal: AbortSignal,
  instead?: unknown,
): Promise<KernelRules> {
  const found = await findIptables(signal)
  const failures: unknown[] = []
  for (const iptables of await inOrder(found, signal)) {
    try {
      return iptablesRules(iptables, await probeFeatures(iptables, signal), reason)
    } catch (error) {
      if (!(error instanceof RulesetRejectedError)) throw error
      failures.push(error)
    }
  }
  if (found.length === 0) throw instead ?? new MissingCommandError('iptables')
  throw new AggregateError(instead === undefined ? failures : [instead, ...failures], 'Cannot make rules for Services')
}

/** Where somebody else's Services are, ours must be as well: between the two kinds no order holds. */
async function inOrder(found: readonly Iptables[], signal: AbortSignal): Promise<Iptables[]> {
  const preferred: Iptables[] = []
  for (const iptables of found) {
    const rules = await iptables.list('nat', signal)
    if (rules.some((rule) => rule.startsWith('-N KUBE-SERVICES'))) preferred.push(iptables)
  }
  return [...new Set([...preferred, ...found])]
}
