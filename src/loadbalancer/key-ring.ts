import type { HashRing } from '../model/index.ts'
import { hashPair, hashText } from './hash.ts'

/** The shape of a ring that does not bring its own, as `loadBalancer.consistentHash` configures it. */
export interface PartitionedRing {
  readonly partitionCount: number
  /** How much finer the partitions are cut, so that shares are even. */
  readonly replicationFactor: number
  /** How far above the mean the share of one member may be; at least 1. */
  readonly load: number
}

/** `loadBalancer.consistentHash` where it says nothing. */
export const usualRing: PartitionedRing = { partitionCount: 100, replicationFactor: 10, load: 1.25 }

/** Spreads keys over members, so that most keys stay where they are when members come and go. */
export interface KeyRing {
  /** Indexes of members in the order in which the key prefers them; all come, some more than once. */
  walk(key: string): Iterable<number>
}

/** Places the members on a ring of the wanted kind; equal members in equal order give equal rings on every node. */
export function createKeyRing(members: readonly string[], ring: HashRing, partitioned: PartitionedRing): KeyRing {
  if (members.length === 0) return { walk: () => [] }
  switch (ring.kind) {
    case 'maglev':
      return maglevRing(members, ring.tableSize ?? usualMaglevSize)
    case 'ring':
      return ring.minimumSize === undefined ? partitionRing(members, partitioned) : pointRing(members, ring.minimumSize)
    default:
      return ring satisfies never
  }
}

/**
 * Each partition prefers the members in an order of its own (highest random weight) and belongs to the first one with
 * room for it. Partitions of a member that leaves go to many others, and few of those push another one on.
 */
function partitionRing(members: readonly string[], shape: PartitionedRing): KeyRing {
  const partitions = shape.partitionCount * shape.replicationFactor
  const hashes = members.map(hashText)
  const room = new Array<number>(members.length).fill(Math.ceil((partitions / members.length) * shape.load))
  const owners = Int32Array.from({ length: partitions }, (_, partition) => {
    const owner = heaviestOf(hashes, partition, (member) => (room[member] ?? 0) > 0)
    room[owner] = (room[owner] ?? 0) - 1
    return owner
  })
  return {
    *walk(key) {
      const partition = hashText(key) % partitions
      yield owners[partition] ?? 0
      const weights = hashes.map((hash, member) => ({ member, weight: hashPair(hash, partition) }))
      for (const { member } of weights.sort((left, right) => right.weight - left.weight)) yield member
    },
  }
}

function heaviestOf(hashes: readonly number[], partition: number, isOpen: (member: number) => boolean): number {
  let heaviest = 0
  let most = -1
  for (let member = 0; member < hashes.length; member++) {
    const weight = hashPair(hashes[member] ?? 0, partition)
    if (weight <= most || !isOpen(member)) continue
    most = weight
    heaviest = member
  }
  return heaviest
}

/** With fewer points a member that leaves would change how many the others have, and so move their keys too. */
const fewestPointsEach = 128
/** Beyond this more points only cost memory. */
const mostPoints = 1 << 20

/** A key belongs to the first point at or after its hash; the ring has at least `minimumSize` points. */
function pointRing(members: readonly string[], minimumSize: number): KeyRing {
  const needed = Math.ceil(Math.min(minimumSize, mostPoints) / 2 ** Math.floor(Math.log2(members.length)))
  const pointsEach = Math.max(Math.min(fewestPointsEach, Math.ceil(mostPoints / members.length)), needed)
  const points = members.flatMap((name, member) => {
    const hash = hashText(name)
    return Array.from({ length: pointsEach }, (_, replica) => ({ hash: hashPair(hash, replica), member }))
  })
  points.sort((left, right) => left.hash - right.hash || left.member - right.member)
  const hashes = Uint32Array.from(points, ({ hash }) => hash)
  return tableRing(
    Int32Array.from(points, ({ member }) => member),
    (key) => firstAtOrAfter(hashes, hashText(key)),
  )
}

/** 0 when all lie before, as the ring closes. */
function firstAtOrAfter(hashes: Uint32Array, hash: number): number {
  let low = 0
  let high = hashes.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((hashes[middle] ?? 0) < hash) low = middle + 1
    else high = middle
  }
  return low === hashes.length ? 0 : low
}

const usualMaglevSize = 65_537

/** The first prime from what is asked for, as in a table of another size members would find no free entry for ever. */
function maglevRing(members: readonly string[], wanted: number): KeyRing {
  const size = primeFrom(Math.max(wanted, members.length + 1))
  return tableRing(fillMaglevTable(members, size), (key) => hashText(key) % size)
}

function primeFrom(least: number): number {
  let candidate = least
  while (!isPrime(candidate)) candidate += 1
  return candidate
}

function isPrime(number: number): boolean {
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false
  return number > 1
}

/** A key belongs to the entry that is found for it; the entries after that one come next. */
function tableRing(owners: Int32Array, entryOf: (key: string) => number): KeyRing {
  return {
    *walk(key) {
      const start = entryOf(key)
      for (let step = 0; step < owners.length; step++) yield owners[(start + step) % owners.length] ?? 0
    },
  }
}

/**
 * The table of Maglev hashing: members take turns in claiming the next free entry of their own permutation of the
 * table, so that shares are equal to ±1. `size` is a prime above the number of members. Entries are indexes of members.
 */
export function fillMaglevTable(members: readonly string[], size: number): Int32Array {
  const table = new Int32Array(size).fill(-1)
  const hashes = members.map(hashText)
  const next = Int32Array.from(hashes, (hash) => hashPair(hash, 0) % size)
  const skips = Int32Array.from(hashes, (hash) => (hashPair(hash, 1) % Math.max(1, size - 1)) + 1)
  let filled = 0
  while (filled < size && members.length > 0) {
    for (let member = 0; member < members.length && filled < size; member++) {
      let entry = next[member] ?? 0
      while (table[entry] !== -1) entry = (entry + (skips[member] ?? 1)) % size
      table[entry] = member
      next[member] = (entry + (skips[member] ?? 1)) % size
      filled += 1
    }
  }
  return table
}
