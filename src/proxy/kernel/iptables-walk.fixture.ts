import assert from 'node:assert/strict'
import { ipv4ToNumber } from '../../model/index.ts'

/** A packet as rules see it. */
export interface FakePacket {
  readonly source?: string
  readonly destination: string
  readonly protocol: 'tcp' | 'udp'
  readonly port: number
  /** The interface it comes in by. */
  readonly interface?: string
  /** Addresses of the node, besides loopback ones. */
  readonly local?: readonly string[]
  /** What is told of its connection; NEW unless told otherwise. */
  readonly state?: string
  /** Where the client sent it, when it was translated. */
  readonly original?: { readonly address: string; readonly port: number }
}

/** What the kernel remembers from packet to packet. */
export interface Seen {
  readonly counters: Map<string, number>
  readonly lists: Map<string, Map<string, number>>
  readonly random: () => number
  readonly nowSeconds: () => number
}

/** The last words of the rule that decides about a packet, from a chain on; undefined when none does. */
export function walk(
  table: ReadonlyMap<string, readonly string[]>,
  chain: string,
  packet: FakePacket,
  seen: Seen,
): string | undefined {
  const rules = table.get(chain) ?? assert.fail(`no chain ${chain}`)
  for (const [at, rule] of rules.entries()) {
    const [, matches = '', verb = '', target = ''] = /^(.*?)(?:^| )-([jg]) (.*)$/.exec(rule) ?? assert.fail(rule)
    if (!matchesAll(`${chain} ${at}`, matches, packet, seen)) continue
    if (target === 'RETURN') return undefined
    const verdict = table.has(target) ? walk(table, target, packet, seen) : target
    if (verdict !== undefined || verb === 'g') return verdict
  }
  return undefined
}

/** All of a rule's matches, from left to right, as the kernel asks them. */
function matchesAll(place: string, text: string, packet: FakePacket, seen: Seen): boolean {
  const parts = text.match(/(?:! )?-[a-z] .*?(?= (?:! )?-[a-z] |$)/g) ?? []
  return parts.every((part) => matchesOne(place, part, packet, seen))
}

function matchesOne(place: string, part: string, packet: FakePacket, seen: Seen): boolean {
  const words = part.split(' ')
  if (words[0] === '!') return !matchesOne(place, words.slice(1).join(' '), packet, seen)
  const [flag = '', value = ''] = words
  switch (flag) {
    case '-p':
      return value === packet.protocol
    case '-d':
      return isIn(packet.destination, value)
    case '-s':
      return isIn(packet.source ?? '10.244.1.9', value)
    case '-i':
      return value === packet.interface
    case '-o':
      return false
    case '-m':
      return matchesModule(place, value, words.slice(2), packet, seen)
    default:
      return assert.fail(`cannot match "${part}"`)
  }
}

function matchesModule(place: string, name: string, words: readonly string[], packet: FakePacket, seen: Seen): boolean {
  const isNegated = words[0] === '!'
  const option = (flag: string): string | undefined => {
    const at = words.indexOf(flag)
    return at < 0 ? undefined : words[at + 1]
  }
  switch (name) {
    case 'comment':
      return true
    case 'tcp':
    case 'udp':
      return Number(option('--dport') ?? option('--sport')) === packet.port
    case 'addrtype':
      return isLocal(packet) !== isNegated
    case 'conntrack':
      return matchesConntrack(option, packet) !== isNegated
    case 'statistic':
      return matchesStatistic(place, option, seen)
    case 'recent':
      return matchesRecent(words, option, packet, seen)
    case 'cluster':
      return (
        (ipv4ToNumber(packet.source ?? '') ?? 0) % Number(option('--cluster-total-nodes')) ===
        Number(option('--cluster-local-node')) - 1
      )
    default:
      return assert.fail(`no match ${name}`)
  }
}

const isLocal = ({ destination, local = [] }: FakePacket): boolean =>
  destination.startsWith('127.') || destination.startsWith('169.254.') || local.includes(destination)

type Option = (flag: string) => string | undefined

function matchesConntrack(option: Option, { state = 'NEW', original }: FakePacket): boolean {
  const states = option('--ctstate')?.split(',')
  if (states !== undefined && !states.includes(state) && !(original !== undefined && states.includes('DNAT')))
    return false
  const address = option('--ctorigdst')
  if (address !== undefined && !isIn(original?.address ?? '', address)) return false
  const port = option('--ctorigdstport')
  return port === undefined || Number(port) === original?.port
}

function matchesStatistic(place: string, option: Option, { counters, random }: Seen): boolean {
  if (option('--mode') === 'random') return random() < Number(option('--probability'))
  const count = counters.get(place) ?? 0
  counters.set(place, (count + 1) % Number(option('--every')))
  return count === Number(option('--packet'))
}

function matchesRecent(words: readonly string[], option: Option, { source = '' }: FakePacket, seen: Seen): boolean {
  const name = option('--name') ?? ''
  const list = seen.lists.get(name) ?? new Map<string, number>()
  seen.lists.set(name, list)
  const last = list.get(source)
  const isKnown =
    last !== undefined && seen.nowSeconds() - last <= Number(option('--seconds') ?? Number.POSITIVE_INFINITY)
  if (words.includes('--set') || isKnown) list.set(source, seen.nowSeconds())
  return words.includes('--set') || isKnown
}

/** Masks need not be prefixes. */
function isIn(address: string, network: string): boolean {
  const [base = '', length = '32'] = network.split('/')
  const mask = length.includes('.')
    ? (ipv4ToNumber(length) ?? 0)
    : length === '0'
      ? 0
      : (-1 << (32 - Number(length))) >>> 0
  const bits = (text: string) => ((ipv4ToNumber(text) ?? 0) & mask) >>> 0
  return ipv4ToNumber(address) !== undefined && bits(address) === bits(base)
}
