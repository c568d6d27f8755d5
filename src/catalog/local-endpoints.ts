import { type Endpoint, type EndpointSlice, keyOf, type ObjectKey, type Pod } from '../model/index.ts'

/**
 * Where the Pods of this node are by their own word: after a restart they may have other addresses than the slices
 * say, and nobody corrects the slices while the cloud is away (docs/decisions/0013-local-endpoints.md). Mutable.
 */
export class LocalEndpoints {
  readonly #nodeName: string | undefined
  /** By Pod, the slices that name it as an endpoint of this node, and their Services. */
  readonly #slicesByPod = new Map<ObjectKey, Map<ObjectKey, ObjectKey>>()
  /** Pods for which a slice has since told an address that the Pod's last word does not have. */
  readonly #outrun = new Set<ObjectKey>()
  #arePodsListed = false
  #areSlicesListed = false

  constructor(nodeName: string | undefined) {
    this.#nodeName = nodeName
  }

  /** Takes note that the source, and not the disk, has told all Pods or all slices. */
  noteListed(kind: 'pods' | 'endpointSlices'): void {
    if (kind === 'pods') this.#arePodsListed = true
    else this.#areSlicesListed = true
  }

  link(slice: EndpointSlice, serviceKey: ObjectKey): void {
    for (const { pod } of this.#ownOf(slice)) {
      const slices = this.#slicesByPod.get(keyOf(pod)) ?? new Map<ObjectKey, ObjectKey>()
      this.#slicesByPod.set(keyOf(pod), slices.set(keyOf(slice), serviceKey))
    }
  }

  unlink(slice: EndpointSlice): void {
    for (const { pod } of this.#ownOf(slice)) {
      const slices = this.#slicesByPod.get(keyOf(pod))
      slices?.delete(keyOf(slice))
      if (slices?.size === 0) this.#slicesByPod.delete(keyOf(pod))
    }
  }

  /** The Services that have the Pod as an endpoint on this node. */
  servicesOf(podKey: ObjectKey): Iterable<ObjectKey> {
    return this.#slicesByPod.get(podKey)?.values() ?? []
  }

  /** The Services that have any Pod of this node. */
  *services(): Generator<ObjectKey> {
    for (const slices of this.#slicesByPod.values()) yield* slices.values()
  }

  /** A slice has changed: an address that is new there is newer than what its Pod said before. */
  noteChange(
    before: EndpointSlice | undefined,
    after: EndpointSlice,
    podOf: (key: ObjectKey) => Pod | undefined,
  ): void {
    const told = new Set([...(before === undefined ? [] : this.#ownOf(before))].map(placeOf))
    for (const own of this.#ownOf(after)) {
      const pod = podOf(keyOf(own.pod))
      if (pod === undefined || told.has(placeOf(own))) continue
      if (!own.endpoint.addresses.some((address) => pod.podIPs.includes(address))) this.#outrun.add(keyOf(pod))
    }
  }

  /** A Pod has spoken again, or is gone. */
  notePod(podKey: ObjectKey): void {
    this.#outrun.delete(podKey)
  }

  /** The slices with the endpoints of this node where they are now. */
  resolved(slices: readonly EndpointSlice[], podOf: (key: ObjectKey) => Pod | undefined): readonly EndpointSlice[] {
    if (!this.#arePodsListed || this.#nodeName === undefined) return slices
    return slices.map((slice) => {
      const endpoints = slice.endpoints.flatMap((endpoint) => this.#resolve(endpoint, slice.addressType, podOf) ?? [])
      const isSame =
        endpoints.length === slice.endpoints.length && endpoints.every((one, at) => one === slice.endpoints[at])
      return isSame ? slice : { ...slice, endpoints }
    })
  }

  /** Undefined when nobody can be there. */
  #resolve(
    endpoint: Endpoint,
    addressType: EndpointSlice['addressType'],
    podOf: (key: ObjectKey) => Pod | undefined,
  ): Endpoint | undefined {
    if (endpoint.nodeName !== this.#nodeName || endpoint.pod === undefined) return endpoint
    const key = keyOf(endpoint.pod)
    const pod = podOf(key)
    if (pod === undefined || pod.nodeName !== this.#nodeName) return this.#areSlicesListed ? endpoint : undefined
    if (this.#outrun.has(key) || endpoint.addresses.some((address) => pod.podIPs.includes(address))) return endpoint
    if (pod.podIPs.length === 0) return undefined
    const addresses = pod.podIPs.filter((address) => address.includes(':') === (addressType === 'IPv6'))
    return addresses.length === 0 ? endpoint : { ...endpoint, addresses }
  }

  #ownOf({ endpoints }: EndpointSlice): readonly OwnEndpoint[] {
    if (this.#nodeName === undefined) return []
    return endpoints.flatMap((endpoint) => {
      const { nodeName, pod } = endpoint
      return nodeName === this.#nodeName && pod !== undefined ? [{ endpoint, pod }] : []
    })
  }
}

interface OwnEndpoint {
  readonly endpoint: Endpoint
  readonly pod: NonNullable<Endpoint['pod']>
}

function placeOf({ endpoint, pod }: OwnEndpoint): string {
  return `${keyOf(pod)} ${endpoint.addresses.join()}`
}
