import { type Ipv4Network, numberToIpv4, type ServicePortId, sizeOfIpv4Network } from '../model/index.ts'

/** A part of the usable addresses of a range: from one share of them to another, 0..1. */
export interface RangePart {
  readonly from: number
  readonly to: number
}

/** Gives ServicePorts addresses of the synthetic range and keeps them as long as they are in use. */
export interface SyntheticAddresses {
  /**
   * The addresses of these ServicePorts: those they have, else new ones. Ids that find the range full are left out.
   * What others hold stays theirs until `release`, so that an address never changes hands while the kernel may still
   * send the old ServicePort's connections there.
   */
  assign(ids: Iterable<ServicePortId>): ReadonlyMap<ServicePortId, string>
  /** Takes back the addresses of all other ServicePorts. */
  releaseAllBut(ids: ReadonlySet<ServicePortId>): void
}

/** New addresses depend on the id alone where they can, so that a restarted agent mostly finds the same ones. */
export function createSyntheticAddresses(
  network: Ipv4Network,
  { from, to }: RangePart = { from: 0, to: 1 },
): SyntheticAddresses {
  /** The first and the last address mean the network and everybody in it to some programs. */
  const all = Math.max(0, sizeOfIpv4Network(network) - 2)
  const first = Math.floor(all * from)
  const usable = Math.floor(all * to) - first
  const offsets = new Map<ServicePortId, number>()
  const taken = new Set<number>()

  const take = (id: ServicePortId): number | undefined => {
    if (taken.size >= usable) return undefined
    let offset = hashOf(id) % usable
    while (taken.has(offset)) offset = (offset + 1) % usable
    taken.add(offset)
    offsets.set(id, offset)
    return offset
  }

  return {
    assign(ids) {
      const assigned = new Map<ServicePortId, string>()
      for (const id of ids) {
        const offset = offsets.get(id) ?? take(id)
        if (offset !== undefined) assigned.set(id, numberToIpv4(network.base + 1 + first + offset))
      }
      return assigned
    },
    releaseAllBut(ids) {
      for (const [id, offset] of offsets) {
        if (ids.has(id)) continue
        offsets.delete(id)
        taken.delete(offset)
      }
    },
  }
}

/** FNV-1a, 32 bits: spreads similar names well and is the same in every process. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < text.length; at++) {
    hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193)
  }
  return hash >>> 0
}
