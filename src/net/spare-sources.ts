import { networkInterfaces } from 'node:os'

/** How long the kernel remembers closed connections, during which their ports towards the same target are taken. */
const usedUpMs = 60_000

/**
 * A target that was dialled this often within that time is dialled from all addresses in turn already: the fewer ports a
 * source has left, the longer the kernel looks for one.
 */
const oftenPerWindow = 2_000

/** Other source addresses for targets towards which the usual one has no port left. */
export interface SpareSources {
  /** The source to dial the target from; undefined for the kernel's choice. */
  sourceFor(target: string): string | undefined
  /** All ports of the last source were taken; false when there is no other to try. */
  usedUp(target: string): boolean
}

/** Makes the choice; `addresses` are looked at only when ports run out. */
export function createSpareSources(
  addresses: () => readonly string[] = ownAddresses,
  nowMs: () => number = () => performance.now(),
): SpareSources {
  const spread = new Map<string, { readonly sources: readonly string[]; untilMs: number; turn: number }>()
  const known = (target: string) => {
    const entry = spread.get(target)
    if (entry === undefined || entry.untilMs > nowMs()) return entry
    spread.delete(target)
    return undefined
  }
  const spreadFromNow = (target: string): boolean => {
    const entry = known(target) ?? { sources: addresses(), untilMs: 0, turn: 0 }
    entry.untilMs = nowMs() + usedUpMs
    if (entry.sources.length > 0) spread.set(target, entry)
    return entry.sources.length > 0
  }
  const dials = { sinceMs: nowMs(), counts: new Map<string, number>() }
  /** True for each dial beyond what is usual. */
  const isOften = (target: string): boolean => {
    if (nowMs() - dials.sinceMs > usedUpMs) {
      dials.sinceMs = nowMs()
      dials.counts.clear()
    }
    const count = (dials.counts.get(target) ?? 0) + 1
    dials.counts.set(target, count)
    return count > oftenPerWindow
  }
  return {
    sourceFor(target) {
      if (isOften(target)) spreadFromNow(target)
      const entry = known(target)
      if (entry === undefined) return undefined
      entry.turn += 1
      return entry.sources[entry.turn % entry.sources.length]
    },
    usedUp: spreadFromNow,
  }
}

/** IPv4 addresses of this node that packets can come from. */
function ownAddresses(): readonly string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => address)
}
