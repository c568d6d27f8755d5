import { type DestinationRule, type EndpointSlice, keyOf, type ObjectKey, type Pod } from '../model/index.ts'
import { isEqualData } from './equal.ts'
import { LocalEndpoints } from './local-endpoints.ts'
import type { KubeObjects, ObjectKind } from './object-sink.ts'
import { RuleIndex, serviceKeysOf } from './rule-index.ts'

type ObjectMaps = { readonly [K in ObjectKind]: Map<ObjectKey, KubeObjects[K]> }

/** All objects, by kind; an absent kind has none. */
export type ObjectLists = { readonly [K in ObjectKind]?: readonly KubeObjects[K][] }

const emptyMaps = (): ObjectMaps => ({
  services: new Map(),
  endpointSlices: new Map(),
  nodes: new Map(),
  destinationRules: new Map(),
  pods: new Map(),
  gateways: new Map(),
  virtualServices: new Map(),
  secrets: new Map(),
})

/** Every kind that sources deliver. */
export const objectKinds = Object.keys(emptyMaps()) as readonly ObjectKind[]

/** Kinds that may be kept: all but Secrets, which belong on no disk of ours. */
export const storableKinds = objectKinds.filter((kind) => kind !== 'secrets')

/** The objects of each kind as the source last told them, and which Services a change touched. Mutable. */
export class ObjectStore {
  readonly #objects = emptyMaps()
  /** By Service; most have one, and none has many. */
  readonly #slicesByService = new Map<ObjectKey, readonly EndpointSlice[]>()
  readonly #rules = new RuleIndex()
  readonly #touchedKinds = new Set<ObjectKind>()
  readonly #listedKinds = new Set<ObjectKind>()
  readonly #local: LocalEndpoints
  /** Services that were changed, themselves or through what belongs to them, since the set was last cleared. */
  readonly touched = new Set<ObjectKey>()
  /** Pods that were changed since the set was last cleared. */
  readonly touchedPods = new Set<ObjectKey>()

  /** Endpoints on the node of that name are found through their Pods; on none when it is undefined. */
  constructor(nodeName?: string) {
    this.#local = new LocalEndpoints(nodeName)
  }

  get isTouched(): boolean {
    return this.#touchedKinds.size > 0
  }

  isKindTouched(kind: ObjectKind): boolean {
    return this.#touchedKinds.has(kind)
  }

  clearTouched(): void {
    this.touched.clear()
    this.touchedPods.clear()
    this.#touchedKinds.clear()
  }

  /** The objects of a kind by key, as they are now and will be. */
  mapOf<K extends ObjectKind>(kind: K): ReadonlyMap<ObjectKey, KubeObjects[K]> {
    return this.#objects[kind]
  }

  /** Takes note that the source has told all objects of a kind, so that what is there is no longer from disk. */
  noteListed(kind: ObjectKind): void {
    if (this.#listedKinds.has(kind)) return
    this.#listedKinds.add(kind)
    if (kind !== 'pods' && kind !== 'endpointSlices') return
    this.#local.noteListed(kind)
    for (const key of this.#local.services()) this.#touchService(key)
  }

  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void {
    const gone = new Set(this.#objects[kind].keys())
    for (const object of objects) gone.delete(this.#take(kind, object))
    for (const key of gone) this.remove(kind, key)
  }

  /** Takes the object unless it equals the known one, whose identity is then kept; gives its key. */
  put<K extends ObjectKind>(kind: K, object: KubeObjects[K]): ObjectKey {
    const linked = { kind, object } as LinkedObject
    if (linked.kind === 'endpointSlices') {
      const slice = linked.object
      this.#local.noteChange(this.#objects.endpointSlices.get(keyOf(slice)), slice, this.#podOf)
    }
    return this.#take(kind, object)
  }

  #take<K extends ObjectKind>(kind: K, object: KubeObjects[K]): ObjectKey {
    const key = keyOfObject(object)
    const objects: Map<ObjectKey, KubeObjects[K]> = this.#objects[kind]
    const known = objects.get(key)
    if (isEqualData(known, object)) return key
    if (known !== undefined) this.#unlink({ kind, object: known } as LinkedObject)
    objects.set(key, object)
    this.#link({ kind, object } as LinkedObject)
    this.#touchedKinds.add(kind)
    return key
  }

  remove(kind: ObjectKind, key: ObjectKey): void {
    const known = this.#objects[kind].get(key)
    if (known === undefined) return
    this.#unlink({ kind, object: known } as LinkedObject)
    this.#objects[kind].delete(key)
    this.#touchedKinds.add(kind)
  }

  /** All objects that may be kept, as they are now. */
  lists(): ObjectLists {
    return Object.fromEntries(storableKinds.map((kind) => [kind, [...this.#objects[kind].values()]]))
  }

  /**
   * The slices of a Service by name; those made from v1 Endpoints only when there is no other. Endpoints of this node
   * have the addresses of their Pods.
   */
  slicesOf(serviceKey: ObjectKey): readonly EndpointSlice[] {
    const slices = this.#slicesByService.get(serviceKey) ?? []
    const real = slices.filter(({ fromEndpoints }) => !fromEndpoints)
    const inForce = (real.length > 0 ? real : slices).toSorted((left, right) => (left.name < right.name ? -1 : 1))
    return this.#local.resolved(inForce, this.#podOf)
  }

  /** The rules of a Service, those that matter most first. */
  rulesOf(serviceKey: ObjectKey): readonly DestinationRule[] {
    return this.#rules.rulesOf(serviceKey)
  }

  readonly #podOf = (key: ObjectKey): Pod | undefined => this.#objects.pods.get(key)

  #touchService(key: ObjectKey): void {
    this.touched.add(key)
    this.#touchedKinds.add('endpointSlices')
  }

  #link(linked: LinkedObject): void {
    this.#touch(linked)
    if (linked.kind === 'destinationRules') this.#rules.add(linked.object)
    if (linked.kind !== 'endpointSlices') return
    const slice = linked.object
    this.#local.link(slice, serviceKeyOf(slice))
    const siblings = this.#slicesByService.get(serviceKeyOf(slice)) ?? []
    this.#slicesByService.set(serviceKeyOf(slice), siblings.concat(slice))
  }

  #unlink(linked: LinkedObject): void {
    this.#touch(linked)
    if (linked.kind === 'destinationRules') this.#rules.delete(linked.object)
    if (linked.kind !== 'endpointSlices') return
    this.#local.unlink(linked.object)
    const key = serviceKeyOf(linked.object)
    const left = (this.#slicesByService.get(key) ?? []).filter((slice) => slice !== linked.object)
    if (left.length === 0) this.#slicesByService.delete(key)
    else this.#slicesByService.set(key, left)
  }

  #touch({ kind, object }: LinkedObject): void {
    if (kind === 'services') this.touched.add(keyOf(object))
    if (kind === 'endpointSlices') this.touched.add(serviceKeyOf(object))
    if (kind === 'destinationRules') {
      for (const key of serviceKeysOf(object, this.#objects.services.keys())) this.touched.add(key)
    }
    if (kind === 'pods') this.#touchPod(object)
  }

  /** A Pod's labels decide which subsets its endpoints are in, and its addresses where those of this node are. */
  #touchPod(pod: Pod): void {
    this.touchedPods.add(keyOf(pod))
    this.#local.notePod(keyOf(pod))
    for (const key of this.#local.servicesOf(keyOf(pod))) this.touched.add(key)
    for (const rule of this.#rules.withSubsets) {
      for (const key of serviceKeysOf(rule, this.#objects.services.keys())) {
        if (key.startsWith(`${pod.namespace}/`) && this.#hasEndpointOf(key, pod)) this.touched.add(key)
      }
    }
  }

  #hasEndpointOf(serviceKey: ObjectKey, { namespace, name }: Pod): boolean {
    const slices = this.#slicesByService.get(serviceKey) ?? []
    return slices.some(({ endpoints }) =>
      endpoints.some(({ pod }) => pod?.name === name && pod.namespace === namespace),
    )
  }
}

/** An object with its kind. */
type LinkedObject = { [K in ObjectKind]: { readonly kind: K; readonly object: KubeObjects[K] } }[ObjectKind]

function keyOfObject(object: KubeObjects[ObjectKind]): ObjectKey {
  return 'namespace' in object ? keyOf(object) : object.name
}

function serviceKeyOf(slice: EndpointSlice): ObjectKey {
  return keyOf({ namespace: slice.namespace, name: slice.serviceName })
}
