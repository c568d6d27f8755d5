const shardCount = 512

/**
 * An immutable map for large indices that change a little at a time: a changed copy shares every shard it did not
 * touch, so a change costs a few hundred entries instead of all of them.
 */
export class ShardedMap<V> {
  readonly #shards: readonly ReadonlyMap<string, V>[]

  private constructor(shards: readonly ReadonlyMap<string, V>[]) {
    this.#shards = shards
  }

  /** A map without entries. */
  static empty<V>(): ShardedMap<V> {
    const shard: ReadonlyMap<string, V> = new Map()
    return new ShardedMap(new Array<ReadonlyMap<string, V>>(shardCount).fill(shard))
  }

  get(key: string): V | undefined {
    return this.#shards[shardOf(key)]?.get(key)
  }

  /** A copy in which each key's value is what `update` makes of the old one; undefined removes the key. */
  updated(keys: Iterable<string>, update: (key: string, value: V | undefined) => V | undefined): ShardedMap<V> {
    const shards = [...this.#shards]
    const fresh = new Map<number, Map<string, V>>()
    for (const key of keys) {
      const number = shardOf(key)
      let shard = fresh.get(number)
      if (shard === undefined) {
        shard = new Map(shards[number])
        fresh.set(number, shard)
        shards[number] = shard
      }
      const value = update(key, shard.get(key))
      if (value === undefined) shard.delete(key)
      else shard.set(key, value)
    }
    return new ShardedMap(shards)
  }
}

function shardOf(key: string): number {
  let hash = 0x811c9dc5
  for (let index = 0; index < key.length; index++) {
    hash = Math.imul(hash ^ key.charCodeAt(index), 0x01000193)
  }
  return (hash >>> 0) % shardCount
}
