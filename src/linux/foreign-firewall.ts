import { runCommand } from './command.ts'
import { CommandFailedError, MissingCommandError } from './errors.ts'
import { findIptables, type Iptables, isLegacyInUse } from './iptables.ts'
import { runNft } from './nft-ruleset-applier.ts'

/** The traffic that a firewall of someone else must let pass for Services to work. */
export interface FirewallAccepts {
  /** Networks that hold the ClusterIPs, as CIDR text: flows we translated are known by their original destination. */
  readonly clusterNetworks: readonly string[]
  /** Destinations that are no ClusterIPs; without an address it is a port of this node. */
  readonly external?: readonly {
    readonly protocol: 'tcp' | 'udp'
    readonly address?: string
    readonly port: number
  }[]
  /** Where this node answers DNS. */
  readonly dns?: { readonly address: string; readonly port: number } | undefined
}

/**
 * Firewalls of others (docker, ufw, firewalld). A packet has to pass every base chain on its way, so an accept in our
 * table cannot help against a DROP in theirs: marked accepts go to the top of the chains that would drop.
 */
export interface ForeignFirewalls {
  /** Adds what is missing; returns the names of the chains that needed it. Knows what it added before. */
  ensureAccepts(accepts: FirewallAccepts, signal: AbortSignal): Promise<readonly string[]>
  /** Removes every marked rule, also those of an earlier run. */
  removeAccepts(signal: AbortSignal): Promise<void>
}

type Hook = 'forward' | 'input'

interface Chain {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook: Hook
  readonly isDropping: boolean
}

const mark = 'edgemesh'

/** Works on the network namespace of this process with nft and, where they are in use, the iptables commands. */
export function createForeignFirewalls(ownTable: string): ForeignFirewalls {
  let added = ''
  const iptablesInUse = createIptablesInUse()
  return {
    async ensureAccepts(accepts, signal) {
      const wanted = JSON.stringify(accepts)
      const isNew = wanted !== added
      const chains = await listChains(ownTable, signal)
      const opened: string[] = []
      for (const chain of chains ?? []) {
        if (!(await isBlocking(chain, signal))) continue
        opened.push(`${chain.family} ${chain.table} ${chain.name}`)
        await openNftChain(chain, accepts, isNew, signal)
      }
      for (const iptables of await iptablesInUse(chains, signal)) {
        opened.push(...(await openIptables(iptables, accepts, isNew, signal)))
      }
      added = wanted
      return opened
    },
    async removeAccepts(signal) {
      added = ''
      const chains = await listChains(ownTable, signal)
      for (const chain of chains ?? []) await runNftUnlessEmpty(await deletionsIn(chain, signal), signal)
      for (const iptables of await iptablesInUse(chains, signal)) await closeIptables(iptables, signal)
    },
  }
}

/** nftables filter chains of others on the hooks that our traffic passes; undefined where nft cannot tell. */
async function listChains(ownTable: string, signal: AbortSignal): Promise<Chain[] | undefined> {
  const objects = await nftJson(['list', 'chains'], signal).catch(undefinedWithoutNft)
  if (objects === undefined) return undefined
  return objects.flatMap(({ chain }) => {
    if (chain === undefined || chain.type !== 'filter' || (chain.hook !== 'forward' && chain.hook !== 'input'))
      return []
    const isIpv4 = chain.family === 'ip' || chain.family === 'inet'
    if (!isIpv4 || (chain.family === 'ip' && chain.table === ownTable)) return []
    return [{ ...chain, hook: chain.hook, isDropping: chain.policy === 'drop' }]
  })
}

/** Chains that iptables-nft made: rules in nft's own words would make iptables refuse the whole table. */
const isOfIptables = (chain: Chain): boolean =>
  chain.family === 'ip' && chain.table === 'filter' && chain.name === chain.hook.toUpperCase()

async function isBlocking(chain: Chain, signal: AbortSignal): Promise<boolean> {
  if (isOfIptables(chain)) return false
  if (chain.isDropping) return true
  // firewalld accepts by policy and ends its chains in an unconditional reject.
  const last = (await rulesOf(chain, signal)).at(-1)
  const only = last?.expr.length === 1 ? Object.keys(last.expr[0] ?? {})[0] : undefined
  return only === 'drop' || only === 'reject'
}

async function openNftChain(chain: Chain, accepts: FirewallAccepts, isNew: boolean, signal: AbortSignal) {
  const rules = nftMatchesOf(accepts, chain.hook)
  const marked = (await rulesOf(chain, signal)).filter(({ comment }) => comment === mark)
  if (!isNew && marked.length === rules.length) return
  const place = `${chain.family} ${chain.table} ${chain.name}`
  const lines = rules.map((match) => `insert rule ${place} ${match} accept comment "${mark}"`)
  const stale = marked.map(({ handle }) => `delete rule ${place} handle ${handle}`)
  await runNftUnlessEmpty([...stale, ...lines], signal)
}

function nftMatchesOf({ clusterNetworks, external = [], dns }: FirewallAccepts, hook: Hook): string[] {
  const translated = [
    ...clusterNetworks.map((network) => `ct status dnat ct original ip daddr ${network}`),
    ...external.map(({ protocol, address, port }) => {
      const to = address === undefined ? '' : `ct original ip daddr ${address} `
      return `ct status dnat ${to}meta l4proto ${protocol} ct original proto-dst ${port}`
    }),
  ]
  if (hook === 'forward' || dns === undefined) return translated
  const asked = ['udp', 'tcp'].map((protocol) => `ip daddr ${dns.address} ${protocol} dport ${dns.port}`)
  // Answers to the node itself come in by loopback, without connection tracking.
  return [...translated, ...asked, `iifname "lo" ip saddr ${dns.address}`]
}

async function deletionsIn(chain: Chain, signal: AbortSignal): Promise<string[]> {
  if (isOfIptables(chain)) return []
  const marked = (await rulesOf(chain, signal)).filter(({ comment }) => comment === mark)
  return marked.map(({ handle }) => `delete rule ${chain.family} ${chain.table} ${chain.name} handle ${handle}`)
}

async function runNftUnlessEmpty(lines: readonly string[], signal: AbortSignal): Promise<void> {
  if (lines.length > 0) await runNft(`${lines.join('\n')}\n`, signal)
}

/** nft may be missing, or the kernel have nothing of it. */
function undefinedWithoutNft(error: unknown): undefined {
  if (!(error instanceof MissingCommandError || error instanceof CommandFailedError)) throw error
}

/** The kinds of iptables that somebody filters with, and whose commands are here, for given chains of nftables. */
function createIptablesInUse(): (chains: readonly Chain[] | undefined, signal: AbortSignal) => Promise<Iptables[]> {
  let found: Iptables[] | undefined
  return async (chains, signal) => {
    const inUse = {
      legacy: isLegacyInUse('filter'),
      // Without nft it is iptables itself that has to say.
      nft: chains === undefined || chains.some(isOfIptables),
    }
    if (!inUse.legacy && !inUse.nft) return []
    found ??= await findIptables(signal)
    return found.filter(({ kind }) => inUse[kind])
  }
}

async function openIptables(iptables: Iptables, accepts: FirewallAccepts, isNew: boolean, signal: AbortSignal) {
  const opened: string[] = []
  const lines: string[] = []
  const existing = await iptables.list('filter', signal)
  for (const hook of ['forward', 'input'] as const) {
    const name = hook.toUpperCase()
    if (!isBlockingIptables(existing, name)) continue
    opened.push(`iptables-${iptables.kind} ${name}`)
    const rules = iptablesMatchesOf(accepts, hook)
    const marked = markedIn(existing, name)
    if (!isNew && marked.length === rules.length) continue
    lines.push(...deletionsOf(marked))
    lines.push(...rules.map((match) => `-I ${name} ${match} -m comment --comment ${mark} -j ACCEPT`))
  }
  await restoreFilter(iptables, lines, signal)
  return opened
}

async function closeIptables(iptables: Iptables, signal: AbortSignal): Promise<void> {
  const existing = await iptables.list('filter', signal)
  const marked = ['FORWARD', 'INPUT'].flatMap((name) => markedIn(existing, name))
  await restoreFilter(iptables, deletionsOf(marked), signal)
}

function isBlockingIptables(existing: readonly string[], name: string): boolean {
  const last = existing.findLast((line) => line.startsWith(`-A ${name} `))
  return existing.includes(`-P ${name} DROP`) || /^-A \S+ -j (DROP|REJECT)( |$)/.test(last ?? '')
}

const markedIn = (existing: readonly string[], name: string): string[] =>
  existing.filter((line) => line.startsWith(`-A ${name} `) && /--comment "?edgemesh"?( |$)/.test(line))

const deletionsOf = (lines: readonly string[]): string[] => lines.map((line) => line.replace(/^-A/, '-D'))

function iptablesMatchesOf({ clusterNetworks, external = [], dns }: FirewallAccepts, hook: Hook): string[] {
  const translated = [
    ...clusterNetworks.map((network) => `-m conntrack --ctstate DNAT --ctorigdst ${network}`),
    ...external.map(({ protocol, address, port }) => {
      const to = address === undefined ? '' : ` --ctorigdst ${address}`
      return `-p ${protocol} -m conntrack --ctstate DNAT${to} --ctorigdstport ${port}`
    }),
  ]
  if (hook === 'forward' || dns === undefined) return translated
  const asked = ['udp', 'tcp'].map((name) => `-d ${dns.address}/32 -p ${name} -m ${name} --dport ${dns.port}`)
  return [...translated, ...asked, `-s ${dns.address}/32 -i lo`]
}

async function restoreFilter(iptables: Iptables, lines: readonly string[], signal: AbortSignal): Promise<void> {
  if (lines.length > 0) await iptables.restore(['*filter', ...lines, 'COMMIT', ''].join('\n'), signal)
}

interface NftObject {
  readonly chain?: {
    readonly family: string
    readonly table: string
    readonly name: string
    readonly type?: string
    readonly hook?: string
    readonly policy?: string
  }
  readonly rule?: NftRule
}

interface NftRule {
  readonly handle: number
  readonly comment?: string
  readonly expr: readonly Readonly<Record<string, unknown>>[]
}

async function rulesOf(chain: Chain, signal: AbortSignal): Promise<NftRule[]> {
  const objects = await nftJson(['list', 'chain', chain.family, chain.table, chain.name], signal)
  return objects.flatMap(({ rule }) => (rule === undefined ? [] : [rule]))
}

async function nftJson(words: readonly string[], signal: AbortSignal): Promise<readonly NftObject[]> {
  const command = { command: 'nft', arguments: ['-j', '-a', ...words], action: 'list the nftables ruleset' }
  const output: unknown = JSON.parse((await runCommand(command, signal)) || '{"nftables":[]}')
  // nft's own format; a document without the list is an older one for "nothing".
  return (output as { readonly nftables?: readonly NftObject[] }).nftables ?? []
}
