import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCatalog, type Schedule, type Snapshot } from './index.ts'
import { sampleEndpoint, sampleNode, sampleService, sampleSlice } from './samples.ts'

/** A clock that stands until it is told to move. */
function createFakeClock() {
  let now = 0
  const timers = new Set<{ readonly at: number; readonly callback: () => void }>()
  const schedule: Schedule = (delayMs, callback) => {
    const timer = { at: now + delayMs, callback }
    timers.add(timer)
    return { [Symbol.dispose]: () => void timers.delete(timer) }
  }
  const advance = (ms: number) => {
    const end = now + ms
    for (;;) {
      const [next] = [...timers].filter(({ at }) => at <= end).sort((left, right) => left.at - right.at)
      if (next === undefined) break
      timers.delete(next)
      now = next.at
      next.callback()
    }
    now = end
  }
  return { schedule, advance, timers, nowMs: () => now }
}

function startCatalog() {
  const clock = createFakeClock()
  const errors: unknown[] = []
  const catalog = createCatalog({
    schedule: clock.schedule,
    nowMs: clock.nowMs,
    onError: (error) => errors.push(error),
  })
  const seen: Snapshot[] = []
  catalog.subscribe((snapshot) => seen.push(snapshot))
  const sync = () => {
    catalog.replace('services', [sampleService()])
    catalog.replace('endpointSlices', [sampleSlice()])
    catalog.replace('nodes', [])
  }
  return { catalog, clock, errors, seen, sync }
}

const sequences = (snapshots: readonly Snapshot[]) => snapshots.map(({ sequence }) => sequence)

test('a subscriber gets the empty snapshot at once and the first full one as soon as every kind was listed', () => {
  const { catalog, clock, seen } = startCatalog()
  assert.deepEqual(sequences(seen), [0])
  catalog.replace('services', [sampleService()])
  catalog.replace('endpointSlices', [])
  clock.advance(1000)
  assert.deepEqual([sequences(seen), catalog.isSynced], [[0], false])
  catalog.replace('nodes', [sampleNode('edge-a')])
  assert.deepEqual([sequences(seen), catalog.isSynced], [[0, 1], true])
  assert.deepEqual([...(seen[1]?.services.keys() ?? [])], ['shop/web'])
  assert.equal(seen[1]?.nodes.get('edge-a')?.name, 'edge-a')
})

test('a node without any object is synced by three empty lists', () => {
  const { catalog, seen } = startCatalog()
  for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
  assert.deepEqual([sequences(seen), catalog.isSynced], [[0, 1], true])
})

test('changes that come together make one snapshot, after a quiet moment', () => {
  const { catalog, clock, seen, sync } = startCatalog()
  sync()
  catalog.put('services', sampleService({ name: 'a' }))
  clock.advance(15)
  catalog.put('services', sampleService({ name: 'b' }))
  clock.advance(19)
  assert.deepEqual(sequences(seen), [0, 1])
  clock.advance(1)
  assert.deepEqual(sequences(seen), [0, 1, 2])
  assert.equal(catalog.current.services.size, 3)
  assert.equal(clock.timers.size, 0)
})

test('a change that comes alone after a rest hardly waits, until another one joins it', () => {
  const { catalog, clock, seen, sync } = startCatalog()
  sync()
  clock.advance(200)
  catalog.put('services', sampleService({ name: 'a' }))
  clock.advance(4)
  assert.deepEqual(sequences(seen), [0, 1, 2])
  // This one is not after a rest.
  catalog.put('services', sampleService({ name: 'b' }))
  clock.advance(19)
  assert.deepEqual(sequences(seen), [0, 1, 2])
  clock.advance(201)
  assert.deepEqual(sequences(seen), [0, 1, 2, 3])
  catalog.put('services', sampleService({ name: 'c' }))
  clock.advance(3)
  catalog.put('services', sampleService({ name: 'd' }))
  clock.advance(19)
  assert.deepEqual(sequences(seen), [0, 1, 2, 3])
  clock.advance(1)
  assert.deepEqual(sequences(seen), [0, 1, 2, 3, 4])
  assert.equal(clock.timers.size, 0)
})

test('a stream of changes cannot put a snapshot off for longer than the limit', () => {
  const { catalog, clock, seen, sync } = startCatalog()
  sync()
  for (let count = 0; count < 30; count++) {
    catalog.put('services', sampleService({ name: `s${count}` }))
    clock.advance(10)
  }
  assert.deepEqual(sequences(seen), [0, 1, 2])
  clock.advance(100)
  assert.deepEqual(sequences(seen), [0, 1, 2, 3])
})

test('what is already known makes no new snapshot', () => {
  const { catalog, clock, seen, sync } = startCatalog()
  sync()
  sync()
  catalog.put('endpointSlices', sampleSlice())
  catalog.remove('services', 'shop/unknown')
  clock.advance(1000)
  assert.deepEqual(sequences(seen), [0, 1])
})

test('a list drops what it does not hold, and a removal drops one object', () => {
  const { catalog, clock, sync } = startCatalog()
  sync()
  catalog.replace('services', [sampleService({ name: 'a' }), sampleService({ name: 'b' })])
  catalog.remove('services', 'shop/a')
  catalog.replace('nodes', [sampleNode('edge-a')])
  catalog.remove('nodes', 'edge-a')
  clock.advance(20)
  assert.deepEqual([...catalog.current.services.keys()], ['shop/b'])
  assert.equal(catalog.current.nodes.size, 0)
})

test('an old snapshot stays as it was when the catalog moves on', () => {
  const { catalog, clock, sync } = startCatalog()
  sync()
  const before = catalog.current
  const web = sampleService()
  catalog.replace('services', [])
  catalog.put('endpointSlices', sampleSlice({ endpoints: [sampleEndpoint('10.0.0.9')] }))
  clock.advance(20)
  const target = { protocol: 'tcp', nodeName: 'edge-a', address: '10.0.0.1', port: 8080 } as const
  assert.equal(before.services.size, 1)
  assert.equal(before.serviceByClusterIP('10.96.0.1')?.name, 'web')
  assert.equal(before.servicePortOfTarget(target), 'shop/web:http/tcp')
  assert.equal(before.slicesOf(web)[0]?.endpoints[0]?.addresses[0], '10.0.0.1')
  assert.equal(catalog.current.services.size, 0)
  assert.equal(catalog.current.serviceByClusterIP('10.96.0.1'), undefined)
  assert.equal(catalog.current.servicePortOfTarget(target), undefined)
})

test('a subscriber that throws is reported, and the others still get the snapshot', () => {
  const { catalog, errors, seen, sync } = startCatalog()
  const boom = new Error('boom')
  catalog.subscribe(() => {
    throw boom
  })
  const last: Snapshot[] = []
  catalog.subscribe((snapshot) => last.push(snapshot))
  sync()
  assert.deepEqual(errors, [boom, boom])
  assert.deepEqual(
    [sequences(seen), sequences(last)],
    [
      [0, 1],
      [0, 1],
    ],
  )
})

test('a disposed subscription and a disposed catalog call nobody back', () => {
  const { catalog, clock, seen, sync } = startCatalog()
  const ended: Snapshot[] = []
  catalog.subscribe((snapshot) => ended.push(snapshot))[Symbol.dispose]()
  sync()
  assert.deepEqual(sequences(ended), [0])
  catalog.put('services', sampleService({ name: 'late' }))
  catalog[Symbol.dispose]()
  clock.advance(1000)
  assert.deepEqual(sequences(seen), [0, 1])
  assert.equal(clock.timers.size, 0)
})

test('without a schedule of its own a catalog uses real timers', async () => {
  using catalog = createCatalog({ debounceMs: 1 })
  for (const kind of ['services', 'endpointSlices', 'nodes'] as const) catalog.replace(kind, [])
  const { promise, resolve } = Promise.withResolvers<Snapshot>()
  catalog.subscribe((snapshot) => snapshot.sequence === 2 && resolve(snapshot))
  catalog.put('services', sampleService())
  assert.equal((await promise).services.size, 1)
})
