import type { KubeObjects, ObjectKind, ObjectSink } from '../../catalog/index.ts'
import { keyOf, type ObjectKey } from '../../model/index.ts'
import type { KindChoice, KindChoiceBy, Selection } from './resources.ts'

/** Names a selection, so that equal ones are known as such. */
export function selectionKeyOf({ namespace = '', fieldSelector = '' }: Selection): string {
  return `${namespace}?${fieldSelector}`
}

/** What the objects of one kind ask to be followed of another. Pure: it is told of every change. */
export class Wishes<D extends ObjectKind> implements ObjectSink {
  readonly #choice: KindChoiceBy<D>
  readonly #byKey = new Map<ObjectKey, readonly string[]>()
  readonly #onChange: () => void
  #isKnown = false

  constructor(choice: KindChoiceBy<D>, onChange: () => void) {
    this.#choice = choice
    this.#onChange = onChange
  }

  /** Wishes of either kind, where the kind is not known when this is written. */
  static of(choice: KindChoice, onChange: () => void): Wishes<ObjectKind> {
    return new Wishes(choice as KindChoiceBy<ObjectKind>, onChange)
  }

  /** True once those objects were listed. */
  get isKnown(): boolean {
    return this.#isKnown
  }

  selections(nodeName: string): readonly Selection[] {
    return this.#choice.selectionsFor(new Set([...this.#byKey.values()].flat()), nodeName)
  }

  replace<K extends ObjectKind>(kind: K, objects: readonly KubeObjects[K][]): void {
    if (!this.#isMine(kind)) return
    this.#isKnown = true
    this.#byKey.clear()
    for (const object of objects) this.#note(object)
    this.#onChange()
  }

  put<K extends ObjectKind>(kind: K, object: KubeObjects[K]): void {
    if (!this.#isMine(kind)) return
    this.#note(object)
    this.#onChange()
  }

  remove(kind: ObjectKind, key: ObjectKey): void {
    if (this.#isMine(kind) && this.#byKey.delete(key)) this.#onChange()
  }

  #isMine(kind: ObjectKind): boolean {
    return kind === this.#choice.dependsOn
  }

  #note(object: KubeObjects[ObjectKind]): void {
    const wishes = this.#choice.wishesOf(object as KubeObjects[D])
    if (wishes.length === 0) this.#byKey.delete(sinkKeyOf(object))
    else this.#byKey.set(sinkKeyOf(object), wishes)
  }
}

/**
 * Puts the objects of several selections of one kind into a sink as if they came from one. The first list is handed
 * on as such, for it is all that is followed then; an object is gone when no selection has it.
 */
export class MergedSelections<K extends ObjectKind> {
  readonly #kind: K
  readonly #sink: ObjectSink
  readonly #parts = new Map<string, Set<ObjectKey>>()
  #isListed = false

  constructor(kind: K, sink: ObjectSink) {
    this.#kind = kind
    this.#sink = sink
  }

  /** Where the objects of a selection go. */
  partOf(selection: string, onListed: () => void): ObjectSink {
    const kind = this.#kind
    const keys = new Set<ObjectKey>()
    this.#parts.set(selection, keys)
    // What a dropped one still delivers would stay for ever.
    const isDropped = () => this.#parts.get(selection) !== keys
    return {
      replace: (_kind, objects) => {
        if (isDropped()) return
        for (const object of objects) keys.add(sinkKeyOf(object))
        if (this.#isListed) for (const object of objects) this.#sink.put(kind, object as KubeObjects[K])
        else this.#sink.replace(kind, objects as readonly KubeObjects[K][])
        this.#isListed = true
        onListed()
      },
      put: (_kind, object) => {
        if (isDropped()) return
        keys.add(sinkKeyOf(object))
        this.#sink.put(kind, object as KubeObjects[K])
      },
      remove: (_kind, key) => {
        if (!isDropped() && keys.delete(key)) this.#removeOrphan(key)
      },
    }
  }

  /** Takes away what only that selection had. */
  drop(selection: string): void {
    const keys = this.#parts.get(selection) ?? new Set()
    this.#parts.delete(selection)
    for (const key of keys) this.#removeOrphan(key)
  }

  /** Nothing is selected, and that is all there is. */
  listNothing(): void {
    if (this.#isListed) return
    this.#isListed = true
    this.#sink.replace(this.#kind, [])
  }

  #removeOrphan(key: ObjectKey): void {
    for (const keys of this.#parts.values()) if (keys.has(key)) return
    this.#sink.remove(this.#kind, key)
  }
}

/** The key under which a sink knows an object. */
export function sinkKeyOf(object: KubeObjects[ObjectKind]): ObjectKey {
  return 'namespace' in object ? keyOf(object) : object.name
}
