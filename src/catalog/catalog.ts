import { createSnapshot, emptyParts, nextParts, type SnapshotParts } from './build-snapshot.ts'
import type { KubeObjects, ObjectKind, ObjectSink } from './object-sink.ts'
import { type ObjectLists, ObjectStore, objectKinds } from './objects.ts'
import type { Catalog, Snapshot } from './snapshot.ts'

/** Calls back once after a delay; disposal cancels. */
export type Schedule = (delayMs: number, callback: () => void) => Disposable

/** How a catalog gathers changes into snapshots. */
export interface CatalogOptions {
  /** Quiet time after changes before a snapshot is made. */
  readonly debounceMs?: number
  /** The same for a change that comes alone after a rest. */
  readonly aloneMs?: number
  /** Longest time that a stream of changes may put a snapshot off. */
  readonly maxDelayMs?: number
  /** The own node, whose Pods say where its endpoints are; without it the slices alone say so. */
  readonly nodeName?: string
  /** Kinds that the first snapshot waits for. */
  readonly awaits?: readonly ObjectKind[]
  /** A timer and a monotonic clock; tests pass their own. */
  readonly schedule?: Schedule
  readonly nowMs?: () => number
  /** Is told of a subscriber that threw; the other subscribers are still called. */
  readonly onError?: (error: unknown) => void
}

/** A catalog's side towards what remembers its objects from one run to the next. */
export interface RememberedCatalog extends Catalog {
  /** True once a source has listed every kind that is waited for; until then a synced catalog shows stored objects. */
  readonly isListed: boolean
  /** All objects as the source last told them, also those that no snapshot shows. */
  objects(): ObjectLists
  /**
   * Takes stored objects and publishes them at once. They stay until the source's first list of their kind replaces
   * them; kinds that it has listed before are left alone.
   */
  prime(objects: ObjectLists): void
}

/**
 * A catalog that sources fill as a sink. Nothing is published until every kind that is waited for was listed once or stored
 * objects are there; the snapshots that this makes come at once, later ones debounced. Changes that change nothing publish
 * nothing. Disposal ends publishing.
 */
export function createCatalog(options: CatalogOptions = {}): RememberedCatalog & ObjectSink & Disposable {
  return new FoldingCatalog(options)
}

/** What the mesh cannot do without. */
const neededKinds: readonly ObjectKind[] = ['services', 'endpointSlices', 'nodes']

class FoldingCatalog implements RememberedCatalog, ObjectSink, Disposable {
  readonly #options: Required<Omit<CatalogOptions, 'nodeName'>>
  readonly #store: ObjectStore
  readonly #unlisted = new Set<ObjectKind>(objectKinds)
  #isPrimed = false
  readonly #subscribers = new Set<{ readonly onSnapshot: (snapshot: Snapshot) => void }>()
  #parts: SnapshotParts = emptyParts
  #current: Snapshot = createSnapshot(emptyParts)
  #quietTimer: Disposable | undefined
  #lateTimer: Disposable | undefined
  #publishedAtMs = Number.NEGATIVE_INFINITY
  #isDisposed = false

  constructor(options: CatalogOptions) {
    this.#store = new ObjectStore(options.nodeName)
    this.#options = {
      awaits: options.awaits ?? neededKinds,
      debounceMs: options.debounceMs ?? 20,
      aloneMs: Math.min(options.aloneMs ?? 4, options.debounceMs ?? 20),
      maxDelayMs: options.maxDelayMs ?? 200,
      schedule: options.schedule ?? scheduleTimeout,
      nowMs: options.nowMs ?? (() => performance.now()),
      onError: options.onError ?? (() => {}),
    }
  }

  get current(): Snapshot {
    return this.#current
  }

  get isListed(): boolean {
    return !this.#options.awaits.some((kind) => this.#unlisted.has(kind))
  }

  get isSynced(): boolean {
    return this.isListed || this.#isPrimed
  }

  subscribe(onSnapshot: (snapshot: Snapshot) => void): Disposable {
    const subscriber = { onSnapshot }
    this.#subscribers.add(subscriber)
    this.#deliver(subscriber)
    return { [Symbol.dispose]: () => void this.#subscribers.delete(subscriber) }
  }

  objects(): ObjectLists {
    return this.#store.lists()
  }

  prime(objects: ObjectLists): void {
    if (this.isListed) return
    for (const kind of this.#unlisted) this.#store.replace(kind, objects[kind] ?? [])
    this.#isPrimed = true
    this.#publish()
  }

  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void {
    const wasListed = this.isListed
    this.#store.replace(kind, objects)
    this.#unlisted.delete(kind)
    this.#store.noteListed(kind)
    if (this.isListed && !wasListed) this.#publish()
    else this.#changed()
  }

  put<K extends ObjectKind>(kind: K, object: KubeObjects[K]): void {
    this.#store.put(kind, object)
    this.#changed()
  }

  remove(kind: ObjectKind, key: string): void {
    this.#store.remove(kind, key)
    this.#changed()
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true
    this.#subscribers.clear()
    this.#cancelTimers()
  }

  #changed(): void {
    if (!this.isSynced || !this.#store.isTouched || this.#isDisposed) return
    const { schedule, debounceMs, aloneMs, maxDelayMs, nowMs } = this.#options
    const publish = () => this.#publish()
    const isAlone = this.#quietTimer === undefined && nowMs() - this.#publishedAtMs >= maxDelayMs
    this.#quietTimer?.[Symbol.dispose]()
    this.#quietTimer = schedule(isAlone ? aloneMs : debounceMs, publish)
    this.#lateTimer ??= schedule(maxDelayMs, publish)
  }

  #publish(): void {
    this.#cancelTimers()
    if (this.#isDisposed) return
    this.#parts = nextParts(this.#parts, this.#store)
    this.#current = createSnapshot(this.#parts)
    this.#store.clearTouched()
    this.#publishedAtMs = this.#options.nowMs()
    for (const subscriber of [...this.#subscribers]) this.#deliver(subscriber)
  }

  #deliver(subscriber: { readonly onSnapshot: (snapshot: Snapshot) => void }): void {
    if (!this.#subscribers.has(subscriber)) return
    try {
      subscriber.onSnapshot(this.#current)
    } catch (error) {
      this.#options.onError(error)
    }
  }

  #cancelTimers(): void {
    this.#quietTimer?.[Symbol.dispose]()
    this.#lateTimer?.[Symbol.dispose]()
    this.#quietTimer = undefined
    this.#lateTimer = undefined
  }
}

function scheduleTimeout(delayMs: number, callback: () => void): Disposable {
  const timer = setTimeout(callback, delayMs)
  return { [Symbol.dispose]: () => clearTimeout(timer) }
}
