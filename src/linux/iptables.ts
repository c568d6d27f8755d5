import { readFileSync } from 'node:fs'
import { runCommand } from './command.ts'
import { CommandFailedError, MissingCommandError, NotPermittedError, RulesetRejectedError } from './errors.ts'

/** The kernel keeps two kinds of iptables apart: its old tables, and those that iptables makes of nftables. */
export type IptablesKind = 'legacy' | 'nft'

/** Tables in the order in which packets meet them. */
export const iptablesTables = ['raw', 'mangle', 'nat', 'filter'] as const

/** A table of iptables. */
export type IptablesTable = (typeof iptablesTables)[number]

/** What the names of our chains begin with. */
export const chainPrefix = 'EDGEMESH-'

/** A chain of a table. */
export interface IptablesChain {
  readonly table: IptablesTable
  readonly name: string
}

/** The iptables commands of one kind. */
export interface Iptables {
  readonly kind: IptablesKind
  /** What the command says of itself: `iptables v1.8.9 (legacy)`. */
  readonly version: string
  /** A table as `iptables -S` prints it; empty where it is not in use, or is not there. Rejects while others lock it. */
  list(table: IptablesTable, signal: AbortSignal): Promise<readonly string[]>
  /** The rules of these chains, in their order; of none of them when one is not there. */
  rulesOf(chains: readonly IptablesChain[], signal: AbortSignal): Promise<readonly (readonly string[])[]>
  /**
   * Runs the text through `iptables-restore --noflush`, which changes each table at once or not at all; rejects with
   * `RulesetRejectedError` when it is not taken.
   */
  restore(text: string, signal: AbortSignal): Promise<void>
}

/** Those that are installed, each kind once; the system's own choice is first. */
export async function findIptables(signal: AbortSignal): Promise<Iptables[]> {
  const found: Iptables[] = []
  for (const name of ['iptables', 'iptables-legacy', 'iptables-nft']) {
    const version = await versionOf(name, signal)
    if (version === undefined) continue
    // Versions before 1.8 have one kind and do not name it.
    const kind = version.includes('nf_tables') ? 'nft' : 'legacy'
    if (!found.some((other) => other.kind === kind)) found.push(createIptables(name, kind, version))
  }
  return found
}

/** Takes our chains, and what leads to them, out of the tables of one kind; false when there was nothing. */
export async function removeOwnChains(iptables: Iptables, signal: AbortSignal): Promise<boolean> {
  let text = ''
  for (const table of iptablesTables) {
    const lines = removalsOf(await iptables.list(table, signal), (name) => name.startsWith(chainPrefix))
    if (lines.length > 0) text += [`*${table}`, ...lines, 'COMMIT', ''].join('\n')
  }
  if (text !== '') await iptables.restore(text, signal)
  return text !== ''
}

/** What to restore so that these chains go, with the rules of other chains that lead to them. */
export function removalsOf(rules: readonly string[], isGoing: (chain: string) => boolean): string[] {
  const chains = rules.flatMap((rule) => /^-N (\S+)$/.exec(rule)?.[1] ?? []).filter(isGoing)
  const going = new Set(chains)
  const jumps = rules.filter((rule) => {
    const [, from = '', to = ''] = /^-A (\S+) .*-[jg] (\S+)$/.exec(rule) ?? []
    return going.has(to) && !going.has(from)
  })
  return [
    ...jumps.map((rule) => rule.replace(/^-A/, '-D')),
    ...chains.map((name) => `-F ${name}`),
    ...chains.map((name) => `-X ${name}`),
  ]
}

async function versionOf(command: string, signal: AbortSignal): Promise<string | undefined> {
  try {
    return (await runCommand({ command, arguments: ['--version'], action: 'find iptables' }, signal)).trim()
  } catch (error) {
    if (error instanceof MissingCommandError || error instanceof CommandFailedError) return undefined
    throw error
  }
}

function createIptables(name: string, kind: IptablesKind, version: string): Iptables {
  const read = async (words: readonly string[], signal: AbortSignal): Promise<readonly string[]> => {
    try {
      const command = { command: name, arguments: ['-w', '5', ...words], action: 'list the iptables rules' }
      return linesIn(await runCommand(command, signal))
    } catch (error) {
      // Who holds the lock will let it go; the others have told that there is nothing to read.
      if (error instanceof CommandFailedError && !/xtables lock/.test(error.stderr)) return []
      throw error
    }
  }
  const restore = `${name}-restore`
  return {
    kind,
    version,
    async list(table, signal) {
      if (kind === 'legacy' && !isLegacyInUse(table)) return []
      return await read(['-t', table, '-S'], signal)
    },
    async rulesOf(chains, signal) {
      if (kind === 'legacy') return await legacyRulesOf(restore, chains, signal)
      const all: (readonly string[])[] = []
      for (const chain of chains) {
        const [head, ...rules] = await read(['-t', chain.table, '-S', chain.name], signal)
        if (head === undefined) return []
        all.push(rules)
      }
      return all
    },
    async restore(text, signal) {
      try {
        const words = ['-w', '5', '--noflush']
        const action = 'change the iptables rules'
        await runCommand({ command: restore, arguments: words, input: text, action }, signal)
      } catch (error) {
        if (error instanceof NotPermittedError || !(error instanceof CommandFailedError)) throw error
        throw rejectionOf(error, text)
      }
    },
  }
}

/** Whether the kernel holds this one of its old tables: looking into another one would make it. */
export function isLegacyInUse(table: IptablesTable): boolean {
  try {
    return linesIn(readFileSync('/proc/net/ip_tables_names', 'utf8')).includes(table)
  } catch {
    // The file exists only while the kernel's old tables are loaded.
    return false
  }
}

/**
 * One process lists all: it reads a table as a whole anyway, and prints what it is asked for in a restore as well. It stops
 * at a chain that is not there, and tells nothing.
 */
async function legacyRulesOf(restore: string, chains: readonly IptablesChain[], signal: AbortSignal) {
  const input = chains.map(({ table, name }) => `*${table}\n-S ${name}\nCOMMIT\n`).join('')
  const words = ['-w', '5', '--noflush', '--test']
  const output = await runCommand(
    { command: restore, arguments: words, input, action: 'list the iptables rules' },
    signal,
  ).catch((error: unknown) => {
    if (error instanceof CommandFailedError) return ''
    throw error
  })
  const sections: string[][] = []
  for (const line of linesIn(output)) {
    if (/^-[PN] /.test(line)) sections.push([])
    else sections.at(-1)?.push(line)
  }
  return sections
}

const linesIn = (text: string): string[] => text.split('\n').filter((line) => line !== '')

/** The first complaint, with the line of the text it is about, where it names one. */
function rejectionOf(error: CommandFailedError, text: string): RulesetRejectedError {
  const complaint = error.stderr
    .split('\n')
    .map((line) => line.replace(/^\S+ v[\d.]+ \(\S+\):\s*/, '').trim())
    .find((line) => line !== '' && !line.startsWith('# Warning'))
  const number = /line:? (\d+)/i.exec(error.stderr)?.[1]
  const line = number === undefined ? undefined : text.split('\n')[Number(number) - 1]?.trim()
  return new RulesetRejectedError(complaint ?? error.message, line?.slice(0, 200), { cause: error })
}
