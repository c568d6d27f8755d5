import { type Conntrack, type Iptables, iptablesTables, RulesetRejectedError } from '../../linux/index.ts'
import type { Logger } from '../../observability/index.ts'
import { createFlowAftercare } from './aftercare.ts'
import type { IptablesFeatures } from './iptables-features.ts'
import { createIptablesRendering } from './iptables-rules.ts'
import { hooksOf, type IptablesRules, isFirst, renderInstallation, renderUpdate } from './iptables-text.ts'
import type { RulesetInput } from './render-ruleset.ts'
import type { Around, RulesetKeeper } from './ruleset-keeper.ts'
import type { FlowRules } from './stale-flows.ts'

/** What the keeper needs. */
export interface IptablesKeeperOptions {
  readonly iptables: Iptables
  readonly features: IptablesFeatures
  readonly conntrack: Conntrack
  readonly logger: Logger
  /** Changes with every change of anybody's nftables, of which iptables-nft makes its tables. */
  readonly generation: (signal: AbortSignal) => Promise<number>
  /** A monotonic clock. */
  readonly nowMs: () => number
}

/** Looking at the old tables takes a process, which shall cost at most a fiftieth of a processor. */
const pausePerLook = 50
const shortestPauseMs = 450

/** What the kernel holds. */
interface Installed {
  readonly input: RulesetInput
  readonly rules: IptablesRules
}

const flowRulesOf = ({ input }: Installed): FlowRules => ({ parts: input.servicePorts })

/** Keeps our chains equal to what is wanted and before those of others; changes only the chains that differ. */
export function createIptablesKeeper(options: IptablesKeeperOptions): RulesetKeeper {
  const { iptables, features, logger } = options
  const rendered = createIptablesRendering(features)
  const watch = createPlaceWatch(options)
  /** Undefined while it is not known what the kernel holds. */
  let installed: Installed | undefined
  /** What it held last, as far as flows tell. */
  let served: FlowRules | undefined
  const flows = createFlowAftercare<FlowRules>(options)

  const install = async (wanted: Installed, signal: AbortSignal): Promise<void> => {
    installed = undefined
    const existing = new Map()
    for (const table of iptablesTables) existing.set(table, await iptables.list(table, signal))
    await iptables.restore(renderInstallation(wanted.rules, existing), signal)
    installed = wanted
  }

  const change = async (text: string, wanted: Installed, signal: AbortSignal): Promise<void> => {
    installed = undefined
    try {
      await iptables.restore(text, signal)
      installed = wanted
    } catch (error) {
      if (!(error instanceof RulesetRejectedError)) throw error
      logger.warn({ reason: error.message }, 'the rules are not what they were; installing all of them')
      await install(wanted, signal)
    }
  }

  const bring = async (wanted: Installed, text: string | undefined, signal: AbortSignal): Promise<void> => {
    if (text === undefined) await install(wanted, signal)
    else await change(text, wanted, signal)
    const rules = flowRulesOf(wanted)
    await flows.after(served, rules, signal)
    served = rules
  }

  const repair = async (current: Installed, around: Around, signal: AbortSignal): Promise<void> => {
    if (await watch.isInPlace(current.rules, signal)) return await flows.again(flowRulesOf(current), signal)
    await around(() => install(current, signal))
    logger.warn({}, 'repaired the rules after somebody else changed them')
    // What began in between knows nothing of our rules.
    await flows.after(undefined, flowRulesOf(current), signal)
  }

  return {
    // Changes of the old tables show nowhere; the new ones are looked at as those of nftables are.
    generation: iptables.kind === 'nft' ? options.generation : async () => 0,
    async keep(input, around, signal) {
      if (installed?.input === input) return await repair(installed, around, signal)
      const wanted = { input, rules: rendered(input) }
      const text = installed === undefined ? undefined : renderUpdate(installed.rules, wanted.rules)
      if (text === '') installed = wanted
      else await around(() => bring(wanted, text, signal))
    },
  }
}

/** Notices that somebody emptied the tables, or put rules before ours. */
interface PlaceWatch {
  isInPlace(rules: IptablesRules, signal: AbortSignal): Promise<boolean>
}

/** Whether packets come to our chains first, and these hold as many rules as they should. */
async function areHooksIntact(iptables: Iptables, rules: IptablesRules, signal: AbortSignal): Promise<boolean> {
  const hooks = hooksOf(rules)
  const own = hooks.map(({ table, chain }) => ({ table, name: chain }))
  const found = await iptables.rulesOf([...hooks, ...own], signal)
  return hooks.every((hook, at) => {
    const held = found[hooks.length + at]?.length
    return isFirst(found[at] ?? [], hook) && held === rules.get(hook.table)?.get(hook.chain)?.length
  })
}

function createPlaceWatch({ iptables, generation, nowMs }: IptablesKeeperOptions): PlaceWatch {
  let looked: { readonly rules: IptablesRules; readonly nextAtMs: number; readonly generation: number } | undefined
  const isDue = async (rules: IptablesRules, signal: AbortSignal): Promise<boolean> => {
    if (looked?.rules !== rules) return true
    if (iptables.kind === 'legacy') return nowMs() >= looked.nextAtMs
    return (await generation(signal)) !== looked.generation
  }
  return {
    async isInPlace(rules, signal) {
      if (!(await isDue(rules, signal))) return true
      looked = undefined
      const startedAt = nowMs()
      // Read before looking: a change in between is then seen next time.
      const seen = iptables.kind === 'legacy' ? 0 : await generation(signal)
      if (!(await areHooksIntact(iptables, rules, signal))) return false
      const pauseMs = Math.max(shortestPauseMs, pausePerLook * (nowMs() - startedAt))
      looked = { rules, nextAtMs: nowMs() + pauseMs, generation: seen }
      return true
    },
  }
}
