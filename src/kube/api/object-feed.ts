import type { KubeObjects, ObjectKind, ObjectSink } from '../../catalog/index.ts'
import { keyOf, type ObjectKey } from '../../model/index.ts'
import type { Logger } from '../../observability/index.ts'
import { Field, ObjectParseError } from '../objects/field.ts'
import { sinkKeyOf } from './chosen-objects.ts'
import type { ApiResource } from './resources.ts'

/** Where a feed's objects go, and who is told of those that cannot be used. */
export interface ObjectFeedOptions<K extends ObjectKind> {
  readonly kind: K
  readonly sink: ObjectSink
  readonly logger: Logger
  /** Called once for each object that cannot be used. */
  readonly onMalformed: () => void
}

/** A list as it comes in. */
export interface Listing {
  add(value: unknown): void
  /** All items are there: what was not among them is gone. */
  complete(): void
}

type Parse<K extends ObjectKind> = ApiResource<K>['parse']

/**
 * Turns JSON of one kind into objects in the sink, and remembers only which keys it put there. An object that cannot
 * be used is warned about once and leaves its last good form in force.
 */
export class ObjectFeed<K extends ObjectKind> {
  readonly #options: ObjectFeedOptions<K>
  #delivered: Delivered = new Map()
  readonly #malformed = new Map<string, string>()
  /** What is left out of objects that are used, by the API's key. */
  readonly #notes = new Map<string, string>()
  #isListed = false

  constructor(options: ObjectFeedOptions<K>) {
    this.#options = options
  }

  /** True once a list was complete. */
  get isListed(): boolean {
    return this.#isListed
  }

  /** How many objects of the API are known. */
  get size(): number {
    return this.#delivered.size
  }

  /** How many objects cannot be used now. */
  get malformed(): number {
    return this.#malformed.size
  }

  /** How many objects are used without a part that cannot be used. */
  get incomplete(): number {
    return this.#notes.size
  }

  /** Begins a list. The first one reaches the sink as a whole, later ones as the differences that they make. */
  startList(parse: Parse<K>): Listing {
    const { kind, sink } = this.#options
    const first: KubeObjects[K][] | undefined = this.#isListed ? undefined : []
    const listed: Delivered = new Map()
    const seen = new Set<string>()
    return {
      add: (value) => {
        const key = this.#keyOf(value)
        seen.add(key ?? nameless)
        if (key === undefined) return
        const objects = this.#parse(parse, key, value)
        listed.set(key, deliveredAs(key, objects?.map(sinkKeyOf) ?? keysIn(this.#delivered, key)))
        if (first !== undefined) first.push(...(objects ?? []))
        else this.#putListed(key, objects ?? [])
      },
      complete: () => {
        if (first === undefined) this.#removeAllBut(listed)
        else sink.replace(kind, first)
        this.#delivered = listed
        this.#isListed = true
        for (const key of this.#malformed.keys()) if (!seen.has(key)) this.#malformed.delete(key)
        for (const key of this.#notes.keys()) if (!seen.has(key)) this.#notes.delete(key)
      },
    }
  }

  /** Takes an object that was added or changed. */
  put(parse: Parse<K>, value: unknown): void {
    const { kind, sink } = this.#options
    const key = this.#keyOf(value)
    if (key === undefined) return
    const objects = this.#parse(parse, key, value)
    const before = keysIn(this.#delivered, key)
    const after = objects?.map(sinkKeyOf) ?? before
    for (const object of objects ?? []) sink.put(kind, object)
    for (const gone of before) if (!after.includes(gone)) sink.remove(kind, gone)
    this.#delivered.set(key, deliveredAs(key, after))
  }

  /** Takes the last form of an object that was deleted. */
  remove(value: unknown): void {
    const key = this.#keyOf(value)
    if (key === undefined) return
    for (const gone of keysIn(this.#delivered, key)) this.#options.sink.remove(this.#options.kind, gone)
    this.#delivered.delete(key)
    this.#malformed.delete(key)
    this.#notes.delete(key)
  }

  /** What the sink has is noted at once: a list that is never complete must not leave objects that nobody removes. */
  #putListed(key: string, objects: readonly KubeObjects[K][]): void {
    for (const object of objects) this.#options.sink.put(this.#options.kind, object)
    if (objects.length === 0) return
    const before = keysIn(this.#delivered, key)
    const after = objects.map(sinkKeyOf)
    this.#delivered.set(key, deliveredAs(key, [...after, ...before.filter((known) => !after.includes(known))]))
  }

  #removeAllBut(listed: Delivered): void {
    const kept = new Set([...listed.keys()].flatMap((key) => keysIn(listed, key)))
    for (const key of this.#delivered.keys()) {
      for (const gone of keysIn(this.#delivered, key)) {
        if (!kept.has(gone)) this.#options.sink.remove(this.#options.kind, gone)
      }
    }
  }

  #parse(parse: Parse<K>, key: string, value: unknown): readonly KubeObjects[K][] | undefined {
    const notes: string[] = []
    try {
      const objects = parse(value, ({ message }) => notes.push(message))
      this.#malformed.delete(key)
      this.#noteLeftOut(key, notes.join('; '))
      return objects
    } catch (error) {
      if (!(error instanceof ObjectParseError)) throw error
      this.#report(key, error.message)
      return undefined
    }
  }

  /** The API's key; undefined, with a warning, for something that is no object. */
  #keyOf(value: unknown): string | undefined {
    try {
      const metadata = new Field(value).at('metadata')
      const name = metadata.at('name').text()
      if (name !== '') return keyOf({ namespace: metadata.at('namespace').text(), name })
    } catch (error) {
      if (!(error instanceof ObjectParseError)) throw error
    }
    this.#report(nameless, value === undefined ? 'an item cannot be read' : 'an item has no name')
    return undefined
  }

  #noteLeftOut(key: string, notes: string): void {
    if (notes === (this.#notes.get(key) ?? '')) return
    if (notes === '') {
      this.#notes.delete(key)
      return
    }
    this.#notes.set(key, notes)
    const reason = `${this.#options.kind} ${key}: ${notes}`
    this.#options.logger.warn({ reason }, 'an object of the API asks for something that is left out')
  }

  #report(key: string, problem: string): void {
    if (this.#malformed.get(key) === problem) return
    this.#malformed.set(key, problem)
    this.#options.onMalformed()
    const reason = `${this.#options.kind} ${key}: ${problem}`
    this.#options.logger.warn({ reason }, 'an object of the API is not usable; its last good form stays in force')
  }
}

/** By the API's key of an object, the sink's keys of what it became; `same` for the one that is equal, as mostly. */
type Delivered = Map<string, readonly ObjectKey[] | typeof same>

const same = 'the same key'

function deliveredAs(key: string, keys: readonly ObjectKey[]): readonly ObjectKey[] | typeof same {
  return keys.length === 1 && keys[0] === key ? same : keys
}

function keysIn(delivered: Delivered, key: string): readonly ObjectKey[] {
  const keys = delivered.get(key) ?? []
  return keys === same ? [key] : keys
}

/** Stands for all items that have no key. */
const nameless = ''
