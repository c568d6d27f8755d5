import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ObjectSink } from '../../catalog/index.ts'
import { type Logger, silentLogger } from '../../observability/index.ts'
import { ObjectFeed } from './object-feed.ts'
import { watchedEndpointSlices, watchedServices } from './resources.ts'

/** A feed and what reaches its sink: `replace a,b`, `put a`, `remove a`. */
function createFeed<K extends 'services' | 'endpointSlices'>(kind: K) {
  const calls: string[] = []
  const warnings: string[] = []
  const sink: ObjectSink = {
    replace: (_kind, objects) => calls.push(`replace ${objects.map(({ name }) => name).join()}`),
    put: (_kind, object) => calls.push(`put ${object.name}`),
    remove: (_kind, key) => calls.push(`remove ${key}`),
  }
  const logger: Logger = { ...silentLogger, warn: ({ reason }) => warnings.push(String(reason)) }
  let malformed = 0
  const onMalformed = () => {
    malformed += 1
  }
  const feed = new ObjectFeed<K>({ kind, sink, logger, onMalformed })
  const takeCalls = () => calls.splice(0)
  return { feed, takeCalls, warnings, countMalformed: () => malformed }
}

const parseServices = watchedServices.resources[0].parse
const service = (name: string, clusterIP = '10.96.0.1') => ({
  metadata: { name, namespace: 'shop' },
  spec: { clusterIP },
})
const malformed = (name: string) => service(name, 'nowhere')

const parseEndpoints = watchedEndpointSlices.resources[2]?.parse ?? assert.fail('no Endpoints')
const endpoints = (ips: readonly (readonly string[])[]) => ({
  metadata: { name: 'web', namespace: 'shop' },
  subsets: ips.map((subset) => ({ addresses: subset.map((ip) => ({ ip })), ports: [{ port: 80 }] })),
})

function listServices({ feed }: ReturnType<typeof createFeed<'services'>>, ...items: unknown[]): void {
  const listing = feed.startList(parseServices)
  for (const item of items) listing.add(item)
  listing.complete()
}

suite('a list', () => {
  test('reaches the sink as a whole, but only when it is complete', () => {
    const fixture = createFeed('services')
    const listing = fixture.feed.startList(parseServices)
    listing.add(service('a'))
    assert.deepEqual([fixture.takeCalls(), fixture.feed.isListed], [[], false])
    listing.add(service('b'))
    listing.complete()
    assert.deepEqual([fixture.takeCalls(), fixture.feed.isListed], [['replace a,b'], true])
  })

  test('that follows another one makes the differences only, and removes last', () => {
    const fixture = createFeed('services')
    listServices(fixture, service('a'), service('b'))
    fixture.takeCalls()
    listServices(fixture, service('b'), service('c'))
    assert.deepEqual(fixture.takeCalls(), ['put b', 'put c', 'remove shop/a'])
    assert.equal(fixture.feed.size, 2)
  })

  test('that is given up removes nothing', () => {
    const fixture = createFeed('services')
    listServices(fixture, service('a'))
    fixture.takeCalls()
    fixture.feed.startList(parseServices).add(service('b'))
    assert.deepEqual(fixture.takeCalls(), ['put b'])
    listServices(fixture, service('a'), service('b'))
    assert.deepEqual(fixture.takeCalls(), ['put a', 'put b'])
  })

  test('that is given up leaves nothing behind that is gone when the next one comes', () => {
    const fixture = createFeed('services')
    listServices(fixture, service('a'))
    fixture.feed.startList(parseServices).add(service('b'))
    fixture.takeCalls()
    listServices(fixture, service('a'))
    assert.deepEqual([fixture.takeCalls(), fixture.feed.size], [['put a', 'remove shop/b'], 1])
  })

  test('that is given up does not forget what else its objects were', () => {
    const fixture = createFeed('endpointSlices')
    const first = fixture.feed.startList(parseEndpoints)
    first.add(endpoints([['10.0.0.1'], ['10.0.0.2']]))
    first.complete()
    fixture.feed.startList(parseEndpoints).add(endpoints([['10.0.0.3']]))
    fixture.takeCalls()
    fixture.feed.remove(endpoints([]))
    assert.deepEqual(fixture.takeCalls(), ['remove shop/web:0:IPv4', 'remove shop/web:1:IPv4'])
  })

  test('of another resource takes the place of what the last one gave, object by object', () => {
    const fixture = createFeed('endpointSlices')
    const first = fixture.feed.startList(parseEndpoints)
    first.add(endpoints([['10.0.0.1']]))
    first.complete()
    const second = fixture.feed.startList(watchedEndpointSlices.resources[0].parse)
    second.add({
      metadata: { name: 'web', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
      addressType: 'IPv4',
    })
    second.complete()
    assert.deepEqual(fixture.takeCalls(), ['replace web:0:IPv4', 'put web', 'remove shop/web:0:IPv4'])
  })
})

suite('an event', () => {
  test('puts and removes', () => {
    const fixture = createFeed('services')
    listServices(fixture)
    fixture.feed.put(parseServices, service('a'))
    fixture.feed.remove(service('a'))
    fixture.feed.remove(service('unknown'))
    assert.deepEqual(fixture.takeCalls(), ['replace ', 'put a', 'remove shop/a'])
    assert.equal(fixture.feed.size, 0)
  })

  test('removes what an object no longer becomes', () => {
    const fixture = createFeed('endpointSlices')
    fixture.feed.put(parseEndpoints, endpoints([['10.0.0.1'], ['10.0.0.2', 'fd00::2']]))
    assert.deepEqual(fixture.takeCalls(), ['put web:0:IPv4', 'put web:1:IPv4', 'put web:1:IPv6'])
    fixture.feed.put(parseEndpoints, endpoints([['10.0.0.3']]))
    assert.deepEqual(fixture.takeCalls(), ['put web:0:IPv4', 'remove shop/web:1:IPv4', 'remove shop/web:1:IPv6'])
    fixture.feed.remove(endpoints([]))
    assert.deepEqual(fixture.takeCalls(), ['remove shop/web:0:IPv4'])
  })
})

suite('an object that cannot be used', () => {
  test('leaves its last good form in force, through events and lists', () => {
    const fixture = createFeed('services')
    listServices(fixture, service('a'), service('b'))
    fixture.takeCalls()
    fixture.feed.put(parseServices, malformed('a'))
    listServices(fixture, malformed('a'))
    assert.deepEqual(fixture.takeCalls(), ['remove shop/b'])
    assert.deepEqual([fixture.feed.size, fixture.feed.malformed], [1, 1])
    fixture.feed.remove(malformed('a'))
    assert.deepEqual([fixture.takeCalls(), fixture.feed.malformed], [['remove shop/a'], 0])
  })

  test('is warned about and counted once, and again when it is wrong in another way or was right in between', () => {
    const fixture = createFeed('services')
    for (let turn = 0; turn < 3; turn++) {
      fixture.feed.put(parseServices, malformed('a'))
      listServices(fixture, malformed('a'), service('b'))
    }
    assert.deepEqual(fixture.warnings, ['services shop/a: spec.clusterIP: must be an IP address, found "nowhere"'])
    fixture.feed.put(parseServices, service('a', 'elsewhere'))
    fixture.feed.put(parseServices, service('a'))
    assert.equal(fixture.feed.malformed, 0)
    fixture.feed.put(parseServices, service('a', 'elsewhere'))
    assert.deepEqual([fixture.warnings.length, fixture.countMalformed()], [3, 3])
  })

  test('does not keep others out, however odd it is', () => {
    const fixture = createFeed('services')
    const odd = [
      null,
      undefined,
      5,
      'x',
      [],
      {},
      { metadata: 5 },
      { metadata: { name: 7 } },
      { metadata: { name: 'n' } },
    ]
    listServices(fixture, service('a'), ...odd, service('b'))
    assert.deepEqual(fixture.takeCalls(), ['replace a,n,b'])
    fixture.feed.put(parseServices, null)
    fixture.feed.remove({ metadata: [] })
    assert.deepEqual(fixture.takeCalls(), [])
    const count = fixture.warnings.length
    listServices(fixture, service('a'), undefined, service('b'))
    listServices(fixture, service('a'), undefined, service('b'))
    assert.ok(fixture.warnings.length <= count + 1)
  })
})

suite('a part of an object that cannot be used', () => {
  const odd = (name: string, externalIP: string) => ({
    metadata: { name, namespace: 'shop' },
    spec: { clusterIP: '10.96.0.1', externalIPs: [externalIP] },
  })

  test('is left out, warned about once and counted until it is put right or gone', () => {
    const { feed, takeCalls, warnings, countMalformed } = createFeed('services')
    feed.put(parseServices, odd('a', 'x'))
    feed.put(parseServices, odd('a', 'x'))
    feed.put(parseServices, odd('b', 'y'))
    assert.deepEqual(takeCalls(), ['put a', 'put a', 'put b'])
    assert.deepEqual(warnings, [
      'services shop/a: spec.externalIPs[0]: must be an IP address, found "x"',
      'services shop/b: spec.externalIPs[0]: must be an IP address, found "y"',
    ])
    assert.deepEqual([feed.incomplete, feed.malformed, countMalformed()], [2, 0, 0])
    feed.put(parseServices, odd('a', '192.0.2.1'))
    feed.remove(odd('b', 'y'))
    assert.equal(feed.incomplete, 0)
    feed.put(parseServices, odd('a', 'x'))
    assert.deepEqual([warnings.length, feed.incomplete], [3, 1])
    listServices({ feed } as never, service('c'))
    assert.equal(feed.incomplete, 0)
  })
})
