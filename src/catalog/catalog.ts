import { createSnapshot, emptyParts, nextParts, type SnapshotParts } from './build-snapshot.ts'
import type { KubeObjects, ObjectKind, ObjectSink } from './object-sink.ts'
import { ObjectStore } from './objects.ts'
import type { Catalog, Snapshot } from './snapshot.ts'

/** Calls back once after a delay; disposal cancels. */
export type Schedule = (delayMs: number, callback: () => void) => Disposable

/** How a catalog gathers changes into snapshots. */
export interface CatalogOptions {
  /** Quiet time after a change before a snapshot is made. */
  readonly debounceMs?: number
  /** Longest time that a stream of changes may put a snapshot off. */
  readonly maxDelayMs?: number
  /** A timer; tests pass their own. */
  readonly schedule?: Schedule
  /** Is told of a subscriber that threw; the other subscribers are still called. */
  readonly onError?: (error: unknown) => void
}

const kinds: readonly ObjectKind[] = ['services', 'endpointSlices', 'nodes']

/**
 * A catalog that sources fill as a sink. Nothing is published until every kind was listed once; that first snapshot
 * comes at once, later ones debounced. Changes that change nothing publish nothing. Disposal ends publishing.
 */
export function createCatalog(options: CatalogOptions = {}): Catalog & ObjectSink & Disposable {
  return new FoldingCatalog(options)
}

class FoldingCatalog implements Catalog, ObjectSink, Disposable {
  readonly #options: Required<CatalogOptions>
  readonly #store = new ObjectStore()
  readonly #unlisted = new Set<ObjectKind>(kinds)
  readonly #subscribers = new Set<{ readonly onSnapshot: (snapshot: Snapshot) => void }>()
  #parts: SnapshotParts = emptyParts
  #current: Snapshot = createSnapshot(emptyParts)
  #quietTimer: Disposable | undefined
  #lateTimer: Disposable | undefined
  #isDisposed = false

  constructor(options: CatalogOptions) {
    this.#options = {
      debounceMs: options.debounceMs ?? 20,
      maxDelayMs: options.maxDelayMs ?? 200,
      schedule: options.schedule ?? scheduleTimeout,
      onError: options.onError ?? (() => {}),
    }
  }

  get current(): Snapshot {
    return this.#current
  }

  get isSynced(): boolean {
    return this.#unlisted.size === 0
  }

  subscribe(onSnapshot: (snapshot: Snapshot) => void): Disposable {
    const subscriber = { onSnapshot }
    this.#subscribers.add(subscriber)
    this.#deliver(subscriber)
    return { [Symbol.dispose]: () => void this.#subscribers.delete(subscriber) }
  }

  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void {
    this.#store.replace(kind, objects)
    const completes = this.#unlisted.delete(kind) && this.isSynced
    if (completes) this.#publish()
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
    const { schedule, debounceMs, maxDelayMs } = this.#options
    const publish = () => this.#publish()
    this.#quietTimer?.[Symbol.dispose]()
    this.#quietTimer = schedule(debounceMs, publish)
    this.#lateTimer ??= schedule(maxDelayMs, publish)
  }

  #publish(): void {
    this.#cancelTimers()
    if (this.#isDisposed) return
    const { touched, services, areNodesTouched } = this.#store
    const nodes = areNodesTouched ? new Map(this.#store.nodes) : this.#parts.nodes
    const slicesOf = (key: string) => this.#store.slicesOf(key)
    this.#parts = nextParts(this.#parts, { touched, services, nodes, slicesOf })
    this.#current = createSnapshot(this.#parts)
    this.#store.clearTouched()
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
