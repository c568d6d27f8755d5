import type { NetlinkSocket } from 'netlink'
import type { Logger } from '../observability/index.ts'
import { runCommand } from './command.ts'
import { createElementUpdates } from './element-updates.ts'
import { CommandFailedError, NetlinkError, NotPermittedError, RulesetRejectedError } from './errors.ts'
import type { NativeFunctions } from './native-functions.ts'
import {
  decodeAttributes,
  encodeAttribute,
  type NetlinkRequests,
  openNetfilterSocket,
  requestOptions,
} from './netlink.ts'
import type { MapElement, RulesetApplier, WholeTable } from './ruleset-applier.ts'

/** Message types: the nftables subsystem of nfnetlink in the upper byte. */
const getChain = (10 << 8) | 4
const getGeneration = (10 << 8) | 16
const dumpFlags = 0x300
const familyIpv4 = 2
const chainAttributes = { table: 1, handle: 2, name: 3, use: 6 }

/**
 * Applies text with `nft -f -`, changes elements by netlink where that works, and looks at the result through netlink,
 * which costs no process.
 */
export async function createRulesetApplier(
  table: string,
  { native, logger }: { readonly native: NativeFunctions | undefined; readonly logger: Logger },
): Promise<RulesetApplier> {
  const netlink = await openNetfilterSocket()
  const elements = createElementUpdates(table, native, logger)
  /** What the last `apply` left: the base chains, and what they were when first seen after it. */
  let installed: { readonly chains: readonly string[]; readonly fingerprint: string } | undefined
  /** The generation at which the fingerprint was found right. */
  let checkedAt: number | undefined

  const generation = async (signal: AbortSignal): Promise<number> => {
    signal.throwIfAborted()
    const data = Buffer.from([familyIpv4, 0, 0, 0])
    const [messages] = await netlink.ask('read the nftables generation', (socket) =>
      socket.request(getGeneration, data, requestOptions),
    )
    const id = decodeAttributes(messages[0]?.data.subarray(4) ?? Buffer.alloc(0)).get(1)
    if (id === undefined) throw new Error('Cannot read the nftables generation: the answer holds none')
    return id.readUInt32BE(0)
  }

  const fingerprintOf = async (chains: readonly string[]): Promise<string> => {
    const states = await Promise.all(chains.map((chain) => readChain(netlink, table, chain)))
    return states.join(' ')
  }

  /**
   * Parsing elements is most of nft's work. Clients that come in between meet the new chains with the old elements.
   * Undefined when the whole is to be applied as text after all, which also tells what is wrong with it.
   */
  const applyInSteps = async ({ steps }: WholeTable, signal: AbortSignal): Promise<string | undefined> => {
    if (steps === undefined || native === undefined) return undefined
    const frame = steps.frame()
    await runNft(frame, signal)
    const chains = await chainsIn(netlink, table)
    const emptiedChains = chains.filter((name) => !steps.chains.has(name))
    try {
      return elements.tryChange({ ...steps.elements, emptiedChains }) ? frame : undefined
    } catch (error) {
      if (error instanceof RulesetRejectedError) return undefined
      throw error
    }
  }

  return {
    generation,
    check: (text, signal) => runNft(text, signal, ['-c']),
    async apply(whole, signal) {
      installed = undefined
      checkedAt = undefined
      const text = (await applyInSteps(whole, signal)) ?? (await applyText(whole.text(), signal))
      const chains = baseChainsOf(text)
      installed = { chains, fingerprint: await fingerprintOf(chains) }
    },
    async update(change, signal) {
      signal.throwIfAborted()
      const isDone = change.elements !== undefined && elements.tryChange(change.elements)
      if (!isDone) await runNft(change.text(), signal)
    },
    way: () => elements.way(),
    elementsOf: (map, signal) => readMap(table, map, signal),
    async isInstalled(signal) {
      if (installed === undefined || installed.fingerprint.includes('missing')) return false
      const now = await generation(signal)
      if (now === checkedAt) return true
      if ((await fingerprintOf(installed.chains)) !== installed.fingerprint) return false
      checkedAt = now
      return true
    },
    [Symbol.dispose]: () => netlink[Symbol.dispose](),
  }
}

async function applyText(text: string, signal: AbortSignal): Promise<string> {
  await runNft(text, signal)
  return text
}

/** Runs text through nft as one transaction; also for those who keep no state about it. */
export async function runNft(text: string, signal: AbortSignal, flags: readonly string[] = []): Promise<void> {
  const action = 'change the nftables ruleset'
  try {
    await runCommand({ command: 'nft', arguments: [...flags, '-f', '-'], input: text, action }, signal)
  } catch (error) {
    if (error instanceof NotPermittedError || !(error instanceof CommandFailedError)) throw error
    throw rejectionOf(error, text)
  }
}

/** An element of `nft -j list map`: key and value, each plain or wrapped with its timeout. */
type NftJsonValue =
  | string
  | number
  | { readonly concat: readonly NftJsonValue[] }
  | { readonly elem: { readonly val: NftJsonValue } }

async function readMap(table: string, map: string, signal: AbortSignal): Promise<MapElement[]> {
  const words = ['-j', 'list', 'map', 'ip', table, map]
  const output = await runCommand({ command: 'nft', arguments: words, action: 'list the nftables ruleset' }, signal)
  // nft's own format; elements are left out when there are none.
  const document = JSON.parse(output) as {
    readonly nftables: readonly {
      readonly map?: { readonly elem?: readonly (readonly [NftJsonValue, NftJsonValue])[] }
    }[]
  }
  return document.nftables.flatMap((entry) => {
    return (entry.map?.elem ?? []).map(([key, value]) => ({ key: textOf(key), value: textOf(value) }))
  })
}

function textOf(value: NftJsonValue): string {
  if (typeof value !== 'object') return String(value)
  if ('elem' in value) return textOf(value.elem.val)
  return value.concat.map(textOf).join(' . ')
}

/** nft's first complaint with the line of the text it is about: `/dev/stdin:7:3-9: Error: syntax error, ...`. */
function rejectionOf(error: CommandFailedError, text: string): RulesetRejectedError {
  const first = /^\S*?:(\d+):[\d-]+: Error: (.*)$/m.exec(error.stderr)
  const complaint = first?.[2] ?? error.stderr.trim().split('\n')[0] ?? ''
  const line = first === null ? undefined : text.split('\n')[Number(first[1]) - 1]?.trim()
  return new RulesetRejectedError(complaint, line?.slice(0, 200), { cause: error })
}

/** Names of the chains in the text that hang on a hook: those that packets meet first. */
function baseChainsOf(text: string): string[] {
  return [...text.matchAll(/chain (\S+) \{\s*type /g)].map((match) => match[1] ?? '')
}

async function chainsIn(netlink: NetlinkRequests<NetlinkSocket>, table: string): Promise<string[]> {
  const data = Buffer.from([familyIpv4, 0, 0, 0])
  const [messages] = await netlink.ask('list nftables chains', (socket) =>
    socket.request(getChain, data, { ...requestOptions, flags: dumpFlags }),
  )
  return messages.flatMap((message) => {
    const attributes = decodeAttributes(message.data.subarray(4))
    const text = (type: number) => attributes.get(type)?.toString('latin1').replace(/\0$/, '')
    const name = text(chainAttributes.name)
    return name === undefined || text(chainAttributes.table) !== table ? [] : [name]
  })
}

/** `handle/rules` of a chain: the handle is new when it was made anew, the count is what it holds. */
async function readChain(netlink: NetlinkRequests<NetlinkSocket>, table: string, chain: string): Promise<string> {
  const data = Buffer.concat([
    Buffer.from([familyIpv4, 0, 0, 0]),
    encodeAttribute(chainAttributes.table, Buffer.from(`${table}\0`)),
    encodeAttribute(chainAttributes.name, Buffer.from(`${chain}\0`)),
  ])
  try {
    const [messages] = await netlink.ask(`read nftables chain ${chain}`, (socket) =>
      socket.request(getChain, data, requestOptions),
    )
    const attributes = decodeAttributes(messages[0]?.data.subarray(4) ?? Buffer.alloc(0))
    const handle = attributes.get(chainAttributes.handle)?.readBigUInt64BE(0)
    return `${handle}/${attributes.get(chainAttributes.use)?.readUInt32BE(0)}`
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return 'missing'
    throw error
  }
}
