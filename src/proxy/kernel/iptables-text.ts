import { chainPrefix, type IptablesTable, iptablesTables } from '../../linux/index.ts'

/** Rules by chain, each without its `-A CHAIN`. */
export type Chains = ReadonlyMap<string, readonly string[]>

/**
 * Our chains by table. One that is named after a chain of the kernel's own hangs on it, before everybody else's rules.
 */
export type IptablesRules = ReadonlyMap<IptablesTable, Chains>

/** A chain of the kernel's own and the one of ours that hangs on it. */
export interface Hook {
  readonly table: IptablesTable
  readonly name: string
  readonly chain: string
}

const builtins = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'] as const

/** Where packets come to our chains. */
export function hooksOf(rules: IptablesRules): Hook[] {
  return [...rules].flatMap(([table, chains]) => {
    return builtins
      .map((name) => ({ table, name, chain: `${chainPrefix}${name}` }))
      .filter(({ chain }) => chains.has(chain))
  })
}

/** Whether packets come to our chain before all rules but the accepts that we put into firewalls of others. */
export function isFirst(rules: readonly string[], { name, chain }: Hook): boolean {
  const first = rules.find((rule) => !/--comment "?edgemesh"?( |$)/.test(rule))
  return first === `-A ${name} -j ${chain}`
}

/**
 * Makes all our chains what is wanted, whatever they are, and puts them first. `existing` is each table as `iptables -S`
 * prints it. Each table changes at once.
 */
export function renderInstallation(
  wanted: IptablesRules,
  existing: ReadonlyMap<IptablesTable, readonly string[]>,
): string {
  return renderTables((table) => {
    const present = existing.get(table) ?? []
    const chains = wanted.get(table) ?? noChains
    const stale = ownChainsIn(present).filter((name) => !chains.has(name))
    return [
      ...declarationsOf(chains.keys()),
      ...present.filter(leadsToUs).map((rule) => rule.replace(/^-A/, '-D')),
      ...[...chains].flatMap(([name, rules]) => additionsTo(name, rules)),
      ...hooksIn(chains).map((name) => `-I ${name} -j ${chainPrefix}${name}`),
      ...removalOf(stale),
    ]
  })
}

/** What turns one state into another; the empty text when they are equal. Chains that are the same are not named. */
export function renderUpdate(before: IptablesRules, after: IptablesRules): string {
  return renderTables((table) => {
    const [old, wanted] = [before.get(table) ?? noChains, after.get(table) ?? noChains]
    const changed = [...wanted].filter(([name, rules]) => !isSame(old.get(name), rules))
    const gone = [...old.keys()].filter((name) => !wanted.has(name))
    const [oldHooks, newHooks] = [hooksIn(old), hooksIn(wanted)]
    return [
      ...declarationsOf(changed.map(([name]) => name)),
      ...without(oldHooks, newHooks).map((name) => `-D ${name} -j ${chainPrefix}${name}`),
      ...changed.flatMap(([name, rules]) => additionsTo(name, rules)),
      ...without(newHooks, oldHooks).map((name) => `-I ${name} -j ${chainPrefix}${name}`),
      ...removalOf(gone),
    ]
  })
}

const noChains: Chains = new Map()

function renderTables(linesOf: (table: IptablesTable) => readonly string[]): string {
  return iptablesTables
    .map((table) => {
      const lines = linesOf(table)
      return lines.length === 0 ? '' : `*${table}\n${lines.join('\n')}\nCOMMIT\n`
    })
    .join('')
}

/** Makes the chains, or empties them. iptables-nft keeps them sorted in a list: in this order it need not search for places. */
const declarationsOf = (names: Iterable<string>): string[] =>
  [...names]
    .sort()
    .reverse()
    .map((name) => `:${name} - [0:0]`)

const additionsTo = (name: string, rules: readonly string[]): string[] => rules.map((rule) => `-A ${name} ${rule}`)

const removalOf = (names: readonly string[]): string[] => [
  ...names.map((name) => `-F ${name}`),
  ...names.map((name) => `-X ${name}`),
]

const hooksIn = (chains: Chains): string[] => builtins.filter((name) => chains.has(`${chainPrefix}${name}`))

const without = (names: readonly string[], others: readonly string[]): string[] =>
  names.filter((name) => !others.includes(name))

const ownChainsIn = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => /^-N (\S+)$/.exec(line)?.[1] ?? []).filter((name) => name.startsWith(chainPrefix))

/** A rule of somebody else's chain that jumps to ours. */
function leadsToUs(line: string): boolean {
  const [, from = chainPrefix, to = ''] = /^-A (\S+) (?:.* )?-[jg] (\S+)$/.exec(line) ?? []
  return to.startsWith(chainPrefix) && !from.startsWith(chainPrefix)
}

const isSame = (left: readonly string[] | undefined, right: readonly string[]): boolean =>
  left === right || (left !== undefined && left.length === right.length && left.every((line, at) => line === right[at]))
