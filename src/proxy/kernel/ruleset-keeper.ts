import { type Conntrack, type RulesetApplier, RulesetRejectedError } from '../../linux/index.ts'
import type { Logger } from '../../observability/index.ts'
import { forgetStaleClients, mayHoldStaleClients } from './affinity.ts'
import { createAftercare, createFlowAftercare } from './aftercare.ts'
import { createComparison, replacementOf, type TableDifference, wholeTableOf } from './nft-table.ts'
import { createRulesets, type Ruleset, type RulesetInput } from './render-ruleset.ts'
import type { RuledServicePort } from './ruled-service-port.ts'

/** Runs a change of the ruleset, with what comes before and after it. */
export type Around = (apply: () => Promise<void>) => Promise<void>

/** Keeps the rules in the kernel equal to what is wanted: a table of nftables, or chains of iptables. */
export interface RulesetKeeper {
  /** Does nothing where the rules are as wanted; `around` is called only when there is something to change. */
  keep(rules: RulesetInput, around: Around, signal: AbortSignal): Promise<void>
  /** A number that changes with every change of anybody's rules; where that cannot be seen, always the same. */
  generation(signal: AbortSignal): Promise<number>
}

/** What the keeper needs. */
export interface RulesetKeeperOptions {
  readonly applier: RulesetApplier
  readonly conntrack: Conntrack
  readonly logger: Logger
  /** Told the generations between which nothing of nftables changed but elements and chains of ours. */
  readonly onOwnChange: (before: number, after: number) => void
  /** A monotonic clock. */
  readonly nowMs: () => number
}

/** Installs the whole table once and then changes what differs; installs it again when somebody else changed it. */
export function createRulesetKeeper(options: RulesetKeeperOptions): RulesetKeeper {
  const { applier, logger, onOwnChange } = options
  /** Undefined while it is not known what the kernel holds. */
  let installed: Ruleset | undefined
  const care = createCare(options)
  const renderedOf = createRendering()
  const differenceOf = createComparison<RuledServicePort>()

  const install = async (ruleset: Ruleset, signal: AbortSignal): Promise<void> => {
    installed = undefined
    try {
      await applier.apply(wholeTableOf(ruleset), signal)
    } catch (error) {
      if (!(error instanceof RulesetRejectedError && error.isConflict)) throw error
      // A table of another version: nothing that is right can be added to it.
      await applier.apply(replacementOf(ruleset), signal)
      logger.warn({ reason: error.message }, 'replaced a table of another shape; established connections may break')
    }
    installed = ruleset
  }

  const change = async (difference: TableDifference, ruleset: Ruleset, signal: AbortSignal): Promise<void> => {
    installed = undefined
    const before = await applier.generation(signal)
    try {
      await applier.update(difference, signal)
    } catch (error) {
      if (!(error instanceof RulesetRejectedError)) throw error
      logger.warn({ reason: error.message }, 'the ruleset is not what it was; installing all of it')
      return await install(ruleset, signal)
    }
    installed = ruleset
    const after = await applier.generation(signal)
    if (after === before + 1) onOwnChange(before, after)
  }

  const bring = async (
    difference: TableDifference | undefined,
    ruleset: Ruleset,
    signal: AbortSignal,
  ): Promise<void> => {
    const before = installed
    if (difference === undefined) await install(ruleset, signal)
    else await change(difference, ruleset, signal)
    await care.changed(before, ruleset, signal)
  }

  const repair = async (ruleset: Ruleset, around: Around, signal: AbortSignal): Promise<void> => {
    await around(() => install(ruleset, signal))
    logger.warn({}, 'repaired the ruleset after somebody else changed it')
    await care.repaired(ruleset, signal)
  }

  return {
    generation: (signal) => applier.generation(signal),
    async keep(rules, around, signal) {
      const ruleset = renderedOf(rules)
      if (installed === ruleset) {
        if (!(await applier.isInstalled(signal))) return await repair(ruleset, around, signal)
        return await care.again(ruleset, signal)
      }
      const difference = installed === undefined ? undefined : differenceOf(installed, ruleset)
      if (difference?.isEmpty === true) installed = ruleset
      else await around(() => bring(difference, ruleset, signal))
    },
  }
}

/** What clients of former rules need. */
function createCare(options: RulesetKeeperOptions) {
  /** What the kernel held last, as far as flows tell. */
  let served: Ruleset | undefined
  const flows = createFlowAftercare<Ruleset>(options)
  const clients = createAftercare<Ruleset>({
    ...options,
    isNeeded: mayHoldStaleClients,
    run: (_before, ruleset, signal) => forgetStaleClients(options.applier, ruleset, signal),
  })
  return {
    async changed(before: Ruleset | undefined, ruleset: Ruleset, signal: AbortSignal): Promise<void> {
      await clients.after(before, ruleset, signal)
      await flows.after(served, ruleset, signal)
      served = ruleset
    },
    /** What began while the table was gone knows nothing of our rules. */
    repaired: (ruleset: Ruleset, signal: AbortSignal) => flows.after(undefined, ruleset, signal),
    async again(ruleset: Ruleset, signal: AbortSignal): Promise<void> {
      await clients.again(ruleset, signal)
      await flows.again(ruleset, signal)
    },
  }
}

/** The same object as long as the rules are. */
function createRendering(): (rules: RulesetInput) => Ruleset {
  const rulesetOf = createRulesets()
  let last: { readonly rules: RulesetInput; readonly ruleset: Ruleset } | undefined
  return (rules) => {
    if (last?.rules !== rules) last = { rules, ruleset: rulesetOf(rules) }
    return last.ruleset
  }
}
