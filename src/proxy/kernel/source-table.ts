import type { Slot } from './ruled-service-port.ts'

/** How many parts client addresses are divided into: enough that shares are even to about an eighth. */
export const sourceTableSize = 512

/**
 * Which slot serves each part of the clients: the one with the highest hash of part and slot, so that only the parts
 * of a slot that goes are given to others. Equal slots of the userspace proxy count as one.
 */
export function sourceTableOf(slots: readonly Slot[]): readonly Slot[] {
  const seeds = slots.map(({ address, port }) => hashOf(`${address} ${port}`))
  return Array.from({ length: sourceTableSize }, (_, part) => {
    let best = 0
    let highest = -1
    for (const [at, seed] of seeds.entries()) {
      const weight = weightOf(seed, part)
      if (weight > highest) {
        highest = weight
        best = at
      }
    }
    return slots[best] ?? { address: '0.0.0.0', port: 0 }
  })
}

/**
 * The same for a small number of parts: no slot gets more than its share, rounded up, so that none stays without. A slot
 * that goes may move a few clients of others.
 */
export function boundedSourceTableOf(slots: readonly Slot[], parts: number): readonly Slot[] {
  const most = Math.ceil(parts / slots.length)
  const claims = slots.flatMap((slot) => {
    const seed = hashOf(`${slot.address} ${slot.port}`)
    return Array.from({ length: parts }, (_, part) => ({ slot, part, weight: weightOf(seed, part) }))
  })
  claims.sort((left, right) => right.weight - left.weight)
  const table: Slot[] = []
  const counts = new Map<Slot, number>()
  for (const { slot, part } of claims) {
    const count = counts.get(slot) ?? 0
    if (table[part] !== undefined || count === most) continue
    table[part] = slot
    counts.set(slot, count + 1)
  }
  return table
}

const weightOf = (seed: number, part: number): number => mixed(seed ^ Math.imul(part + 1, 0x9e3779b1))

/** FNV-1a, 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  return hash >>> 0
}

/** The finalizer of MurmurHash3: every bit of the input changes about half of the output. */
function mixed(value: number): number {
  let bits = value ^ (value >>> 16)
  bits = Math.imul(bits, 0x85ebca6b)
  bits ^= bits >>> 13
  bits = Math.imul(bits, 0xc2b2ae35)
  return (bits ^ (bits >>> 16)) >>> 0
}
