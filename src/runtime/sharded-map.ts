const shardCount = 512

/** What can be asked of a map that does not change, plain or sharded. */
export interface ReadableMap<V> extends Iterable<readonly [string, V]> {
  readonly size: number
  get(key: string): V | undefined
  has(key: string): boolean
  values(): Iterable<V>
}

/** One key whose value is not the same object in two maps; absent where a map does not have it. */
export interface MapDifference<V> {
  readonly key: string
  readonly before: V | undefined
  readonly after: V | undefined
}

/**
 * An immutable map for large indices that change a little at a time: a changed copy shares every shard it did not
 * touch, so a change costs a few hundred entries instead of all of them.
 */
export class ShardedMap<V> implements ReadableMap<V> {
  readonly size: number
  readonly #shards: readonly ReadonlyMap<string, V>[]

  private constructor(shards: readonly ReadonlyMap<string, V>[], size: number) {
    this.#shards = shards
    this.size = size
  }

  /** A map without entries. */
  static empty<V>(): ShardedMap<V> {
    const shard: ReadonlyMap<string, V> = new Map()
    return new ShardedMap(new Array<ReadonlyMap<string, V>>(shardCount).fill(shard), 0)
  }

  get(key: string): V | undefined {
    return this.#shards[shardOf(key)]?.get(key)
  }

  has(key: string): boolean {
    return this.#shards[shardOf(key)]?.has(key) === true
  }

  *values(): Generator<V> {
    for (const shard of this.#shards) yield* shard.values()
  }

  *[Symbol.iterator](): Generator<readonly [string, V]> {
    for (const shard of this.#shards) yield* shard
  }

  /** A copy in which each key's value is what `update` makes of the old one; undefined removes the key. */
  updated(keys: Iterable<string>, update: (key: string, value: V | undefined) => V | undefined): ShardedMap<V> {
    const shards = [...this.#shards]
    const fresh = new Map<number, Map<string, V>>()
    let { size } = this
    for (const key of keys) {
      const number = shardOf(key)
      let shard = fresh.get(number)
      if (shard === undefined) {
        shard = new Map(shards[number])
        fresh.set(number, shard)
        shards[number] = shard
      }
      size -= shard.size
      const value = update(key, shard.get(key))
      if (value === undefined) shard.delete(key)
      else shard.set(key, value)
      size += shard.size
    }
    return new ShardedMap(shards, size)
  }

  /** Costs what changed when one was made from the other. */
  *differencesFrom(before: ShardedMap<V>): Generator<MapDifference<V>> {
    if (before === this) return
    for (let number = 0; number < shardCount; number++) {
      const [other, shard] = [before.#shards[number], this.#shards[number]]
      if (other !== undefined && shard !== undefined && other !== shard) yield* compareAll(other, shard)
    }
  }
}

/** Tells what is not the same object in both maps; cheap when both are sharded and one was made from the other. */
export function differencesOf<V>(before: ReadableMap<V>, after: ReadableMap<V>): Iterable<MapDifference<V>> {
  if (before instanceof ShardedMap && after instanceof ShardedMap) return after.differencesFrom(before)
  return before === after ? [] : compareAll(before, after)
}

function* compareAll<V>(before: ReadableMap<V>, after: ReadableMap<V>): Generator<MapDifference<V>> {
  for (const [key, value] of before) if (!after.has(key)) yield { key, before: value, after: undefined }
  for (const [key, value] of after) {
    const known = before.get(key)
    if (known !== value) yield { key, before: known, after: value }
  }
}

function shardOf(key: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < key.length; index++) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
  }
  return (hash >>> 0) % shardCount
}
