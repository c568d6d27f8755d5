import { type ClusterNode, type EndpointSlice, keyOf, type ObjectKey, type Service } from '../model/index.ts'
import { isEqualData } from './equal.ts'
import type { KubeObjects, ObjectKind } from './object-sink.ts'

type Stored = Service | EndpointSlice | ClusterNode

/** Every kind that sources deliver. */
export const objectKinds: readonly ObjectKind[] = ['services', 'endpointSlices', 'nodes']

/** All objects, by kind. */
export type ObjectLists = { readonly [K in ObjectKind]: readonly KubeObjects[K][] }

/** The objects of each kind as the source last told them, and which Services a change touched. Mutable. */
export class ObjectStore {
  readonly services = new Map<ObjectKey, Service>()
  readonly nodes = new Map<string, ClusterNode>()
  readonly #slices = new Map<ObjectKey, EndpointSlice>()
  readonly #slicesByService = new Map<ObjectKey, Map<ObjectKey, EndpointSlice>>()
  /** Services that were changed themselves or through a slice since the set was last cleared. */
  readonly touched = new Set<ObjectKey>()
  #areNodesTouched = false

  get isTouched(): boolean {
    return this.touched.size > 0 || this.#areNodesTouched
  }

  get areNodesTouched(): boolean {
    return this.#areNodesTouched
  }

  clearTouched(): void {
    this.touched.clear()
    this.#areNodesTouched = false
  }

  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void {
    const gone = new Set(this.#mapOf(kind).keys())
    for (const object of objects) gone.delete(this.put(kind, object))
    for (const key of gone) this.remove(kind, key)
  }

  /** Takes the object unless it equals the known one, whose identity is then kept; gives its key. */
  put<K extends ObjectKind>(kind: K, object: KubeObjects[K]): ObjectKey {
    const key = keyOfObject(object)
    const objects = this.#mapOf(kind) as Map<ObjectKey, Stored>
    const known = objects.get(key)
    if (isEqualData(known, object)) return key
    this.#touch(known)
    this.#touch(object)
    if (kind === 'endpointSlices') this.#unlink(key)
    objects.set(key, object)
    if (kind === 'endpointSlices') this.#link(key)
    return key
  }

  remove(kind: ObjectKind, key: ObjectKey): void {
    const objects = this.#mapOf(kind)
    const known = objects.get(key)
    if (known === undefined) return
    this.#touch(known)
    if (kind === 'endpointSlices') this.#unlink(key)
    objects.delete(key)
  }

  /** All objects as they are now. */
  lists(): ObjectLists {
    return {
      services: [...this.services.values()],
      endpointSlices: [...this.#slices.values()],
      nodes: [...this.nodes.values()],
    }
  }

  /** The slices of a Service by name; those made from v1 Endpoints only when there is no other. */
  slicesOf(serviceKey: ObjectKey): readonly EndpointSlice[] {
    const slices = [...(this.#slicesByService.get(serviceKey)?.values() ?? [])]
    const real = slices.filter(({ fromEndpoints }) => !fromEndpoints)
    return (real.length > 0 ? real : slices).sort((left, right) => (left.name < right.name ? -1 : 1))
  }

  #mapOf(kind: ObjectKind): Map<ObjectKey, Stored> {
    const maps: Record<ObjectKind, Map<ObjectKey, never>> = {
      services: this.services as Map<ObjectKey, never>,
      endpointSlices: this.#slices as Map<ObjectKey, never>,
      nodes: this.nodes as Map<string, never>,
    }
    return maps[kind]
  }

  #touch(object: Stored | undefined): void {
    if (object === undefined) return
    if ('serviceName' in object) this.touched.add(serviceKeyOf(object))
    else if ('namespace' in object) this.touched.add(keyOf(object))
    else this.#areNodesTouched = true
  }

  #unlink(key: ObjectKey): void {
    const slice = this.#slices.get(key)
    if (slice === undefined) return
    const siblings = this.#slicesByService.get(serviceKeyOf(slice))
    siblings?.delete(key)
    if (siblings?.size === 0) this.#slicesByService.delete(serviceKeyOf(slice))
  }

  #link(key: ObjectKey): void {
    const slice = this.#slices.get(key)
    if (slice === undefined) return
    const siblings = this.#slicesByService.get(serviceKeyOf(slice)) ?? new Map<ObjectKey, EndpointSlice>()
    siblings.set(key, slice)
    this.#slicesByService.set(serviceKeyOf(slice), siblings)
  }
}

function keyOfObject(object: Stored): ObjectKey {
  return 'namespace' in object ? keyOf(object) : object.name
}

function serviceKeyOf(slice: EndpointSlice): ObjectKey {
  return `${slice.namespace}/${slice.serviceName}`
}
