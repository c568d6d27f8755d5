import assert from 'node:assert/strict'
import { type Iptables, type IptablesTable, iptablesTables, RulesetRejectedError } from '../../linux/index.ts'
import { type FakePacket, type Seen, walk } from './iptables-walk.fixture.ts'

/** iptables as the kernel would hold it after the texts that were run. */
export interface FakeIptables extends Iptables {
  readonly tables: ReadonlyMap<IptablesTable, ReadonlyMap<string, readonly string[]>>
  /** The texts that were run, oldest first. */
  readonly texts: string[]
  /** Texts with one of these words are refused. */
  readonly refusals: Set<string>
  /** As somebody else does it. */
  run(text: string): void
  /** What becomes of a packet on a hook: the last words of the rule that decides, or `ACCEPT` when none does. */
  verdict(table: IptablesTable, hook: string, packet: FakePacket): string
}

/** `random` stands for the kernel's numbers from 0 to 1, `nowSeconds` for its clock. */
export function createFakeIptables(
  kind: Iptables['kind'] = 'legacy',
  { random = () => 0.5, nowSeconds = () => 0 }: { random?: () => number; nowSeconds?: () => number } = {},
): FakeIptables {
  let tables = emptyTables()
  const refusals = new Set<string>()
  const texts: string[] = []
  const seen: Seen = { counters: new Map(), lists: new Map(), random, nowSeconds }
  const rulesOf = (table: IptablesTable, name: string): readonly string[] => tables.get(table)?.get(name) ?? []
  const run = (text: string): void => {
    for (const word of refusals) if (text.includes(word)) throw new RulesetRejectedError(`no ${word}`, undefined)
    const draft = structuredClone(tables)
    runText(draft, text)
    for (const chains of draft.values()) assertNoDangling(chains)
    tables = draft
  }
  return {
    kind,
    version: `iptables v1.8.9 (${kind === 'nft' ? 'nf_tables' : 'legacy'})`,
    texts,
    refusals,
    run,
    get tables() {
      return tables
    },
    list: async (table) => [
      ...[...(tables.get(table) ?? [])].map(([name]) => (builtins.includes(name) ? `-P ${name} ACCEPT` : `-N ${name}`)),
      ...[...(tables.get(table) ?? [])].flatMap(([name, rules]) => rules.map((rule) => `-A ${name} ${rule}`)),
    ],
    rulesOf: async (chains) =>
      chains.map(({ table, name }) => rulesOf(table, name).map((rule) => `-A ${name} ${rule}`)),
    async restore(text) {
      texts.push(text)
      run(text)
    },
    verdict(table, hook, packet) {
      return walk(tables.get(table) ?? new Map(), hook, packet, seen) ?? 'ACCEPT'
    },
  }
}

type Table = Map<string, string[]>

const builtins = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']

const emptyTables = (): Map<IptablesTable, Table> =>
  new Map(iptablesTables.map((name) => [name, new Map(builtins.map((chain) => [chain, []]))]))

function runText(tables: ReadonlyMap<IptablesTable, Table>, text: string): void {
  let table: Table | undefined
  for (const line of text.split('\n').filter((one) => one !== '' && one !== 'COMMIT')) {
    if (line.startsWith('*')) table = tables.get(line.slice(1) as IptablesTable)
    else runLine(table ?? assert.fail(`no table for "${line}"`), line, tables.get('nat') === table)
  }
}

function runLine(table: Table, line: string, isNat: boolean): void {
  const [verb = '', name = '', ...words] = line.split(' ')
  const rule = words.join(' ')
  if (verb.startsWith(':')) {
    assert.ok(verb.length <= 29, `${verb} is too long`)
    table.set(verb.slice(1), [])
    return
  }
  const rules = table.get(name)
  if (rules === undefined) throw new RulesetRejectedError(`no chain ${name}`, line)
  if (isNat) assert.doesNotMatch(rule, /-j (DROP|REJECT)/, 'the table nat refuses to drop')
  if (/--to-destination \S+:\d/.test(rule)) assert.match(rule, /^(.* )?-p (tcp|udp) /, 'a port needs a protocol')
  if (verb === '-A') rules.push(rule)
  else if (verb === '-I') rules.unshift(rule)
  else if (verb === '-F') rules.length = 0
  else if (verb === '-X') {
    assert.deepEqual(rules, [], `${name} has rules`)
    table.delete(name)
  } else {
    assert.equal(verb, '-D', line)
    assert.ok(rules.includes(rule), `nothing to delete: ${line}`)
    rules.splice(rules.indexOf(rule), 1)
  }
}

function assertNoDangling(table: Table): void {
  for (const rule of [...table.values()].flat()) {
    const [, chain = ''] = /-[jg] (EDGEMESH-\S+)/.exec(rule) ?? []
    if (chain !== '' && !table.has(chain)) throw new RulesetRejectedError(`no chain ${chain}`, rule)
  }
}
