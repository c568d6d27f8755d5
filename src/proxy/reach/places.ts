import type { Snapshot } from '../../catalog/index.ts'
import { differencesOf } from '../../runtime/index.ts'
import type { Place } from './confirmations.ts'
import type { AskedPlace } from './questioner.ts'

/** Where endpoints are. Each part is the same object until it changes. */
export interface Places {
  /** Addresses of endpoints on this node. */
  readonly local: ReadonlySet<string>
  /** Addresses of endpoints on other nodes, as far as they are wanted. */
  readonly remote: readonly Place[]
}

/** Which addresses matter. */
export interface PlacesOptions {
  /** This node. */
  readonly nodeName: string
  /** Whether an endpoint may have this address. */
  readonly isUsable: (address: string) => boolean
  /** Whether an address on another node is worth remembering. */
  readonly isWanted: (address: string) => boolean
}

/** Says where the endpoints of one snapshot after another are; costs what changed. */
export function createPlaces(options: PlacesOptions): (snapshot: Snapshot) => Places {
  const counted = new CountedPlaces(options)
  let last: Snapshot['slicesByService'] = new Map()
  let places: Places = { local: new Set(), remote: [] }
  return ({ slicesByService }) => {
    for (const { before, after } of differencesOf(last, slicesByService)) {
      counted.count(after, 1)
      counted.count(before, -1)
    }
    last = slicesByService
    places = counted.since(places)
    return places
  }
}

/** Addresses of endpoints on other nodes, each once, for who looks at all of them and then forgets them. */
export function* remotePlacesOf(
  { slicesByService }: Pick<Snapshot, 'slicesByService'>,
  { nodeName, isUsable }: Omit<PlacesOptions, 'isWanted'>,
): Generator<AskedPlace> {
  const seen = new Set<string>()
  for (const slices of slicesByService.values()) {
    for (const endpoint of endpointsOf(slices)) {
      const id = placeIdOf(endpoint)
      if (endpoint.nodeName === nodeName || seen.has(id) || !isUsable(endpoint.address)) continue
      seen.add(id)
      yield endpoint
    }
  }
}

/** An address that leads to one node or another. */
export const placeIdOf = ({ nodeName, address }: AskedPlace): string => [nodeName, address].join(' ')

type Slices = (Snapshot['slicesByService'] extends { get(key: string): infer V } ? V : never) | undefined
type Endpoint = AskedPlace & { readonly tcpPorts: readonly number[] }

/** How many endpoints there are of everything. */
class CountedPlaces {
  readonly #options: PlacesOptions
  readonly #local = new Counts<string>()
  readonly #remote = new Map<string, { readonly place: AskedPlace; readonly uses: Counts<number> }>()
  #isLocalChanged = false
  #isRemoteChanged = false

  constructor(options: PlacesOptions) {
    this.#options = options
  }

  /** Negative numbers take away what was counted before. */
  count(slices: Slices, change: number): void {
    const { nodeName, isUsable, isWanted } = this.#options
    for (const endpoint of endpointsOf(slices)) {
      if (!isUsable(endpoint.address)) continue
      if (endpoint.nodeName === nodeName) {
        if (this.#local.change(endpoint.address, change)) this.#isLocalChanged = true
      } else if (isWanted(endpoint.address)) this.#countRemote(endpoint, change)
    }
  }

  /** These places, or what they are now. */
  since({ local, remote }: Places): Places {
    const places = {
      local: this.#isLocalChanged ? new Set(this.#local.keys()) : local,
      remote: this.#isRemoteChanged ? this.#remoteNow() : remote,
    }
    this.#isLocalChanged = false
    this.#isRemoteChanged = false
    return places
  }

  #countRemote({ nodeName, address, tcpPorts }: Endpoint, change: number): void {
    const id = placeIdOf({ nodeName, address })
    const known = this.#remote.get(id) ?? { place: { nodeName, address }, uses: new Counts<number>() }
    this.#remote.set(id, known)
    for (const use of [anyUse, ...tcpPorts]) if (known.uses.change(use, change)) this.#isRemoteChanged = true
    if (!known.uses.has(anyUse)) this.#remote.delete(id)
  }

  #remoteNow(): Place[] {
    return [...this.#remote.values()].map(({ place, uses }) => {
      const tcpPorts = new Set(uses.keys())
      tcpPorts.delete(anyUse)
      return { ...place, tcpPorts }
    })
  }
}

/** Stands among the ports of a place for the place itself, which may have none. */
const anyUse = 0

/** How often each key is there, none of them less than once. */
class Counts<K> {
  readonly #counts = new Map<K, number>()

  has(key: K): boolean {
    return this.#counts.has(key)
  }

  keys(): Iterable<K> {
    return this.#counts.keys()
  }

  /** True when the key came or went. */
  change(key: K, by: number): boolean {
    const before = this.#counts.get(key) ?? 0
    const after = before + by
    if (after > 0) this.#counts.set(key, after)
    else this.#counts.delete(key)
    return before > 0 !== after > 0
  }
}

function* endpointsOf(service: Slices): Generator<Endpoint> {
  for (const { endpoints, ports } of service?.slices ?? []) {
    const tcpPorts = ports.filter(({ protocol }) => protocol === 'tcp').map(({ port }) => port)
    for (const { nodeName, addresses } of endpoints) {
      const [address] = addresses
      if (nodeName !== undefined && address !== undefined) yield { nodeName, address, tcpPorts }
    }
  }
}
