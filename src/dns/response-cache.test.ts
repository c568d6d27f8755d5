import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ForwardedResponse } from './forwarded-response.ts'
import { ResponseCache } from './response-cache.ts'

const bounds = { maxEntries: 3, maxBytes: 1000, maxSeconds: 60, maxStaleSeconds: 100 }

function createCache(changes: Partial<typeof bounds> = {}) {
  const clock = { now: 0 }
  return { clock, cache: new ResponseCache({ ...bounds, ...changes, now: () => clock.now }) }
}

function responseFor(ttlSeconds: number, bytes = 12): ForwardedResponse {
  return { message: Buffer.alloc(bytes), rcode: 0, isTruncated: false, ttlSeconds, records: [] }
}

test('a cached response ages, becomes stale, and in the end is gone', () => {
  const { cache, clock } = createCache()
  const response = responseFor(10)
  cache.set('a', response)
  clock.now = 9_900
  assert.deepEqual(cache.get('a'), { response, ageSeconds: 9, isStale: false, isHopeless: false })
  clock.now = 10_000
  assert.deepEqual(cache.get('a'), { response, ageSeconds: 10, isStale: true, isHopeless: false })
  clock.now = 109_999
  assert.equal(cache.get('a')?.isStale, true)
  clock.now = 110_000
  assert.equal(cache.get('a'), undefined)
})

test('no response is fresh for longer than the limit, and one without time is not kept', () => {
  const { cache, clock } = createCache()
  cache.set('long', responseFor(3600))
  cache.set('none', responseFor(0))
  clock.now = 59_999
  assert.equal(cache.get('long')?.isStale, false)
  clock.now = 60_000
  assert.equal(cache.get('long')?.isStale, true)
  assert.equal(cache.get('none'), undefined)
})

test('a limit of no time keeps nothing', () => {
  const { cache } = createCache({ maxSeconds: 0 })
  cache.set('a', responseFor(30))
  assert.equal(cache.get('a'), undefined)
})

test('a full cache forgets what came first, by count and by size', () => {
  const { cache } = createCache()
  const present = (keys: readonly string[]) => keys.filter((key) => cache.get(key) !== undefined).join('')
  for (const key of ['a', 'b', 'a', 'c', 'd']) cache.set(key, responseFor(30))
  assert.equal(present(['a', 'b', 'c', 'd']), 'acd')
  cache.set('e', responseFor(30, 980))
  assert.equal(present(['a', 'c', 'd', 'e']), 'de')
  // Replaced, its bytes are counted once.
  cache.set('e', responseFor(30, 980))
  assert.equal(present(['d', 'e']), 'de')
})

test('where nobody answers, the stale response needs no further attempt for a while', () => {
  const { cache, clock } = createCache()
  cache.set('a', responseFor(10))
  clock.now = 20_000
  cache.failed('a')
  cache.failed('unknown')
  clock.now = 24_999
  assert.equal(cache.get('a')?.isHopeless, true)
  clock.now = 25_000
  assert.equal(cache.get('a')?.isHopeless, false)
})

test('when all responses are expired they are stale at once and fresh ones take their place', () => {
  const { cache, clock } = createCache()
  cache.set('a', responseFor(30))
  clock.now = 1000
  cache.expire()
  assert.equal(cache.get('a')?.isStale, true)
  cache.set('a', responseFor(30))
  assert.equal(cache.get('a')?.isStale, false)
})
