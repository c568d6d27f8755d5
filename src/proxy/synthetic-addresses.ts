import { type Ipv4Network, numberToIpv4, type ServicePortId, sizeOfIpv4Network } from '../model/index.ts'

/** Where the userspace proxy takes connections of one ServicePort: ServicePorts may share an address, each at another port. */
export interface SyntheticPlace {
  readonly address: string
  readonly port: number
}

/** Names a place, as `address:port`. */
export const placeKeyOf = ({ address, port }: SyntheticPlace): string => [address, port].join(':')

/** What a pool gives out. */
export interface SyntheticPool {
  readonly network: Ipv4Network
  /** A part of the usable addresses: from one share of them to another, 0..1. */
  readonly part?: { readonly from: number; readonly to: number }
  /** The ports that are listened on; more may come. The next one is used when all addresses are taken at the others. */
  readonly ports: () => readonly number[]
}

/** Gives ServicePorts places in the synthetic range and keeps them as long as they are in use. */
export interface SyntheticAddresses {
  /**
   * The places of these ServicePorts: those they have, else new ones. Ids that find the range full are left out.
   * What others hold stays theirs until `release`, so that a place never changes hands while the kernel may still
   * send the old ServicePort's connections there. A ServicePort's place is the same object as long as it has it.
   */
  assign(ids: Iterable<ServicePortId>): ReadonlyMap<ServicePortId, SyntheticPlace>
  /** Takes back the places of all other ServicePorts. */
  releaseAllBut(ids: ReadonlySet<ServicePortId>): void
}

/** Pools for ServicePorts, and for endpoints whose addresses DNS hands out: those are kept apart. */
export function createSyntheticPools(
  network: Ipv4Network,
  ports: () => readonly number[],
): { readonly servicePorts: SyntheticAddresses; readonly endpoints: SyntheticAddresses } {
  return {
    servicePorts: createSyntheticAddresses({ network, part: { from: 0, to: 0.75 }, ports }),
    // What DNS hands out is an address without a port: nothing can share it.
    endpoints: createSyntheticAddresses({ network, part: { from: 0.75, to: 1 }, ports: () => ports().slice(0, 1) }),
  }
}

/** The offsets that are taken at one port. */
type Layer = Set<number>

/** New addresses depend on the id alone where they can, so that a restarted agent mostly finds the same ones. */
export function createSyntheticAddresses({ network, part, ports }: SyntheticPool): SyntheticAddresses {
  const { from, to } = part ?? { from: 0, to: 1 }
  /** The first and the last address mean the network and everybody in it to some programs. */
  const all = Math.max(0, sizeOfIpv4Network(network) - 2)
  const first = Math.floor(all * from)
  const usable = Math.floor(all * to) - first
  const held = new Map<
    ServicePortId,
    { readonly layer: Layer; readonly offset: number; readonly place: SyntheticPlace }
  >()
  const layers: Layer[] = []

  const take = (id: ServicePortId): SyntheticPlace | undefined => {
    for (const [at, port] of ports().entries()) {
      const layer = layers[at] ?? new Set()
      layers[at] = layer
      if (layer.size >= usable) continue
      let offset = hashOf(id) % usable
      while (layer.has(offset)) offset = (offset + 1) % usable
      layer.add(offset)
      const place = { address: numberToIpv4(network.base + 1 + first + offset), port }
      held.set(id, { layer, offset, place })
      return place
    }
    return undefined
  }

  return {
    assign(ids) {
      const assigned = new Map<ServicePortId, SyntheticPlace>()
      for (const id of ids) {
        const place = held.get(id)?.place ?? take(id)
        if (place !== undefined) assigned.set(id, place)
      }
      return assigned
    },
    releaseAllBut(ids) {
      for (const [id, { layer, offset }] of held) {
        if (ids.has(id)) continue
        held.delete(id)
        layer.delete(offset)
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
