import { createHash } from 'node:crypto'
import type { Protocol } from '../../model/index.ts'
import { type IptablesFeatures, mostHashedSlots } from './iptables-features.ts'
import type { Choice, Slot } from './ruled-service-port.ts'
import { boundedSourceTableOf } from './source-table.ts'

/** Where a rule goes on, and the chain it leads to if that is one of a ServicePort. */
export interface Turnoff {
  /** `-j DNAT --to-destination ADDRESS:PORT`, or `-j CHAIN`. */
  readonly target: string
  readonly chain?: readonly [name: string, rules: readonly string[]]
}

/**
 * How iptables chooses among slots: a ServicePort with one slot needs no chain. Where a match is missing the first slot
 * gets everything; planning sees to it that only connections which the userspace proxy cannot take come to that.
 */
export function turnoffOf(choice: Choice, protocol: Protocol, features: IptablesFeatures): Turnoff {
  const rules = choosingRules(choice, features)
  const [only] = rules
  if (rules.length === 1 && only?.match === '') return { target: only.target }
  const name = `EDGEMESH-S-${digestOf(choice.name)}`
  const lines = rules.map(({ match, target }) => `-p ${protocol} ${match === '' ? '' : `${match} `}${target}`)
  return { target: `-j ${name}`, chain: [name, lines] }
}

interface ChoosingRule {
  readonly match: string
  readonly target: string
}

function choosingRules(choice: Choice, features: IptablesFeatures): ChoosingRule[] {
  const { kind, affinitySeconds } = choice
  const slots = features.statistic ? choice.slots : choice.slots.slice(0, 1)
  if (affinitySeconds !== undefined && features.recent) return stickyRules(choice.name, slots, affinitySeconds)
  switch (kind) {
    case 'random':
      return randomRules(slots)
    case 'turns':
      return turnRules(slots)
    case 'source':
      return features.cluster && slots.length <= mostHashedSlots ? sourceRules(slots) : randomRules(slots)
    default:
      return kind satisfies never
  }
}

/** Of equal slots there is one rule. Each rule sees what those before it left over. */
function randomRules(slots: readonly Slot[]): ChoosingRule[] {
  const weights = new Map<string, number>()
  for (const slot of slots) weights.set(translationTo(slot), (weights.get(translationTo(slot)) ?? 0) + 1)
  let left = slots.length
  return [...weights].map(([target, weight]) => {
    const match = weight === left ? '' : `-m statistic --mode random --probability ${(weight / left).toFixed(10)}`
    left -= weight
    return { match, target }
  })
}

/** Every third of all, every second of what is left, and the rest: each rule has a counter of its own. */
function turnRules(slots: readonly Slot[]): ChoosingRule[] {
  return slots.map((slot, at) => {
    const left = slots.length - at
    return {
      match: left === 1 ? '' : `-m statistic --mode nth --every ${left} --packet 0`,
      target: translationTo(slot),
    }
  })
}

/**
 * Each slot has a list of its clients in the kernel. Who is on one, and was seen lately, goes there and is seen again; who
 * is on none is given a slot and put on its list.
 */
function stickyRules(name: string, slots: readonly Slot[], seconds: number): ChoosingRule[] {
  const known = [...new Set(slots.map(translationTo))].map((target) => ({
    match: `-m recent --name ${listOf(name, target)} --update --seconds ${seconds} --reap`,
    target,
  }))
  const chosen = randomRules(slots).map(({ match, target }) => {
    const remember = `-m recent --name ${listOf(name, target)} --set`
    return { match: match === '' ? remember : `${match} ${remember}`, target }
  })
  return [...known, ...chosen]
}

/** How many parts the kernel's match on clusters divides client addresses into at most. */
const clusterParts = 32

function sourceRules(slots: readonly Slot[]): ChoosingRule[] {
  const table = boundedSourceTableOf(slots, clusterParts)
  return table.map((slot, part) => {
    const match = `-m cluster --cluster-total-nodes ${clusterParts} --cluster-local-node ${part + 1} --cluster-hash-seed 0x656d`
    return { match: part === clusterParts - 1 ? '' : match, target: translationTo(slot) }
  })
}

const translationTo = ({ address, port }: Slot): string => `-j DNAT --to-destination ${address}:${port}`

/** Addresses and node ports of a ServicePort share the lists of its slots, as in every restart. */
const listOf = (name: string, target: string): string => `EDGEMESH-${digestOf(`${name} ${target}`)}`

/** Names of chains are 28 characters at most, and may not hold every character: 16 that stand for a text. */
export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 16)
