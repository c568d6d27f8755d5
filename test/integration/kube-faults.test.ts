/** What API servers and metaServers do wrong, and what a source makes of it. */
import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { ApiDouble, DoubleRequest, Fault } from './support/api-double.ts'
import { endpointsObject, nodeObject, paths, serviceObject, sliceObject } from './support/api-objects.ts'
import { followDouble, quickTiming, until } from './support/api-source.ts'

/** Fails the first requests that match. */
function failFirst(count: number, matches: (request: DoubleRequest) => boolean, fault: Fault) {
  let left = count
  return (request: DoubleRequest): Fault | undefined => {
    if (left === 0 || !matches(request)) return undefined
    left -= 1
    return fault
  }
}

const isServices = ({ path }: DoubleRequest) => path === paths.services
const isServiceList = (request: DoubleRequest) => isServices(request) && !request.isWatch
const isServiceWatch = (request: DoubleRequest) => isServices(request) && request.isWatch

suite('a list', () => {
  test('is read in pages of 500', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        for (let at = 0; at < 1201; at++) double.put(paths.services, serviceObject(`s${at}`))
      },
    })
    await site.synced()
    assert.equal(site.catalog.current.services.size, 1201)
    const limits = site.double.requests.filter(isServiceList).map(({ query }) => query.get('limit'))
    assert.deepEqual(limits, ['500', '500', '500'])
  })

  test('starts again when a page has expired, and asks for everything at once when that repeats', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        for (let at = 0; at < 600; at++) double.put(paths.services, serviceObject(`s${at}`))
        double.fault = (request) => {
          if (isServices(request) && request.query.has('continue')) double.compact()
          return undefined
        }
      },
    })
    await site.synced()
    assert.equal(site.catalog.current.services.size, 600)
    const limits = site.double.requests.filter(isServiceList).map(({ query }) => query.get('limit'))
    assert.deepEqual(limits, ['500', '500', '500', '500', null])
    assert.deepEqual(site.warnings(), [])
  })

  for (const [what, fault] of Object.entries({
    'is refused': { kind: 'status', status: 503 },
    'ends in a reset': { kind: 'reset' },
    'is cut in the middle': { kind: 'cut', afterBytes: 300 },
    'is no JSON': { kind: 'body', text: '<html>Bad gateway</html>' },
    'is half a JSON': { kind: 'body', text: '{"kind":"ServiceList","items":[{"metadata":{"name":"x"}}' },
    'is something else': { kind: 'body', text: '{"kind":"Status","message":"odd"}' },
  } satisfies Record<string, Fault>)) {
    test(`that ${what} is asked for again, while the other kinds are followed`, async () => {
      await using site = await followDouble({
        prepare: (double) => {
          double.put(paths.services, serviceObject('web'))
          double.put(paths.nodes, nodeObject('edge-a'))
          double.fault = failFirst(3, isServiceList, fault)
        },
      })
      await until(() => site.resource('nodes')?.state === 'watching')
      await site.synced()
      assert.deepEqual(site.services(), ['web 10.96.0.1'])
      assert.equal(site.double.lists(paths.services), 4)
      await until(() => site.resource('services')?.lastError === undefined)
    })
  }

  test('that never comes keeps only its own kind waiting', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        double.put(paths.nodes, nodeObject('edge-a'))
        double.fault = (request) => (isServices(request) ? { kind: 'stall' } : undefined)
      },
    })
    await until(
      () => site.resource('nodes')?.state === 'watching' && site.resource('endpointSlices')?.state === 'watching',
    )
    assert.equal(site.resource('services')?.state, 'listing')
    assert.equal(site.catalog.isSynced, false)
  })

  test('of 1,000 objects survives three that are malformed, which are named once', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        for (let at = 0; at < 1000; at++) double.put(paths.services, serviceObject(`s${at}`))
        double.changeSilently(paths.services, (objects) => {
          objects.set('shop/s1', { metadata: { name: 's1', namespace: 'shop' }, spec: 'text' })
          objects.set('shop/s2', { metadata: { name: 's2', namespace: 'shop' }, spec: { ports: [{ port: 'http' }] } })
          objects.set('shop/s3', { metadata: { name: 's3', namespace: 'shop' }, spec: { clusterIP: 7 } })
        })
      },
    })
    await site.synced()
    assert.equal(site.catalog.current.services.size, 997)
    assert.equal(site.resource('services')?.malformed, 3)
    assert.deepEqual(site.warnings(), [
      'services shop/s1: spec: must be a map, found "text"',
      'services shop/s2: spec.ports[0].port: must be a whole number from 1 to 65535, found "http"',
      'services shop/s3: spec.clusterIP: must be text, found 7',
    ])
    assert.match(await site.metrics.render(), /kube_malformed_objects_total\{kind="services"\} 3/)
    site.double.put(paths.services, serviceObject('s2'))
    await until(() => site.resource('services')?.malformed === 2)
  })
})

suite('a watch', () => {
  const withWeb = { prepare: (double: ApiDouble) => double.put(paths.services, serviceObject('web')) }

  test('asks for bookmarks, and goes on from the last one', async () => {
    await using site = await followDouble(withWeb)
    await until(() => site.double.watches(paths.services) === 1)
    site.double.bookmark(paths.services)
    site.double.compact()
    site.double.bookmark(paths.services)
    await new Promise((resolve) => setTimeout(resolve, 150))
    site.double.endWatches(paths.services)
    await until(() => site.double.requests.filter(isServiceWatch).length === 2)
    site.double.put(paths.services, serviceObject('api', '10.96.0.2'))
    await until(() => site.services().length === 2)
    assert.equal(site.double.lists(paths.services), 1)
    assert.ok(
      site.double.requests.filter(isServiceWatch).every(({ query }) => query.get('allowWatchBookmarks') === 'true'),
    )
    assert.deepEqual(site.warnings(), [])
  })

  for (const how of ['in order', 'by reset'] as const) {
    test(`that ends ${how} goes on where it was, and misses nothing`, async () => {
      await using site = await followDouble(withWeb)
      await until(() => site.double.watches(paths.services) === 1)
      site.double.put(paths.services, serviceObject('api', '10.96.0.2'))
      await until(() => site.services().length === 2)
      site.double.endWatches(paths.services, how)
      site.double.remove(paths.services, 'web', 'shop')
      site.double.put(paths.services, serviceObject('new', '10.96.0.3'))
      await until(() => site.services().join() === 'api 10.96.0.2,new 10.96.0.3', site.services)
      assert.ok(site.double.requests.filter(isServiceList).every(({ query }) => query.get('limit') !== null))
    })
  }

  test('that is cut in the middle of an object goes on with that object', async () => {
    await using site = await followDouble(withWeb)
    await until(() => site.double.watches(paths.services) === 1)
    site.double.tell(paths.services, '{"type":"ADDED","object":{"metadata":{"name":"half","name')
    site.double.endWatches(paths.services, 'by reset')
    site.double.put(paths.services, serviceObject('half', '10.96.0.9'))
    await until(() => site.services().includes('half 10.96.0.9'))
  })

  test('that is too old, as an event or as an answer, leads to a new list that removes what is gone', async () => {
    for (const asAnswer of [false, true]) {
      await using site = await followDouble(withWeb)
      await until(() => site.double.watches(paths.services) === 1)
      site.double.fault = failFirst(asAnswer ? 1 : 0, isServiceWatch, { kind: 'status', status: 410 })
      site.double.changeSilently(paths.services, (objects) => objects.delete('shop/web'))
      site.double.compact()
      site.double.put(paths.services, serviceObject('api', '10.96.0.2'))
      site.double.compact()
      site.double.endWatches(paths.services, 'by reset')
      await until(() => site.services().join() === 'api 10.96.0.2', site.services)
    }
  })

  test('with lines that are no JSON, or too odd, is given up for a new list', async () => {
    await using site = await followDouble(withWeb)
    await until(() => site.double.watches(paths.services) === 1)
    site.double.changeSilently(paths.services, (objects) => objects.delete('shop/web'))
    site.double.tell(paths.services, 'Internal Server Error\n')
    await until(() => site.services().length === 0, site.services)
    assert.match(site.warnings().join(), /a line is no JSON/)
  })

  test('passes over events of other types and events without an object', async () => {
    await using site = await followDouble(withWeb)
    await until(() => site.double.watches(paths.services) === 1)
    for (const line of [{ type: 'SYNC', object: {} }, { type: 'BOOKMARK' }, {}, null, 5, 'text', { type: 'DELETED' }]) {
      site.double.tell(paths.services, line === 'text' ? '"text"\n' : line)
    }
    site.double.put(paths.services, serviceObject('api', '10.96.0.2'))
    await until(() => site.services().length === 2)
    assert.equal(site.double.requests.filter(isServiceWatch).length, 1)
  })

  test('that stalls does not keep the others from hearing', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.fault = (request) => (isServiceWatch(request) ? { kind: 'stall' } : undefined)
      },
    })
    await site.synced()
    await until(() => site.double.watches(paths.nodes) === 1)
    site.double.put(paths.nodes, nodeObject('edge-a'))
    await until(() => site.catalog.current.nodes.size === 1)
  })

  test('that the server always ends at once is asked for ever less often, and nothing is lost', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        double.fault = (request) => (isServiceWatch(request) ? { kind: 'body', text: '' } : undefined)
      },
      source: { timing: { ...quickTiming, retry: { firstMs: 50, maxMs: 10_000, jitter: 0 }, shortWatchMs: 5_000 } },
    })
    const startedAt = performance.now()
    await until(() => site.double.requests.filter(isServiceWatch).length === 4)
    assert.ok(performance.now() - startedAt > 50 + 100 + 200 - 20)
    const { lastError } = site.resource('services') ?? {}
    assert.match(lastError ?? '', /ended at once/)
    site.double.fault = () => undefined
    site.double.put(paths.services, serviceObject('web'))
    await until(() => site.services().length === 1)
  })
})

suite('an API that comes back', () => {
  test('is caught up with, changes made meanwhile included', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
      },
    })
    await site.synced()
    await site.double.stop()
    await until(() => site.resource('services')?.state === 'waiting')
    assert.ok(site.logged.some(({ message }) => /cannot be followed now; the last objects stay in force/.test(message)))
    site.double.put(paths.services, serviceObject('api', '10.96.0.2'))
    site.double.remove(paths.services, 'web', 'shop')
    assert.deepEqual(site.services(), ['web 10.96.0.1'])
    await site.double.start()
    await until(() => site.services().join() === 'api 10.96.0.2', site.services)
    await until(() => site.source.status().resources.every(({ state }) => state === 'watching'))
  })

  test('from a backup, at an earlier version, is listed again', async () => {
    await using site = await followDouble({ prepare: (double) => double.put(paths.services, serviceObject('web')) })
    await until(() => site.double.watches(paths.services) === 1)
    await site.double.stop()
    site.double.rewind(500)
    site.double.put(paths.services, serviceObject('restored', '10.96.0.5'))
    site.double.changeSilently(paths.services, (objects) => objects.delete('shop/web'))
    await site.double.start()
    await until(() => site.services().join() === 'restored 10.96.0.5', site.services)
  })

  test('is found also when it was away at the start', async () => {
    await using site = await followDouble({
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.fault = () => ({ kind: 'reset' })
      },
    })
    await until(() => site.source.status().resources.length === 3 && site.resource('services')?.state === 'waiting')
    assert.equal(site.catalog.isSynced, false)
    const warnings = site.logged.filter(({ level }) => level === 'warn').map(({ message }) => message)
    assert.ok(warnings.length > 0)
    for (const warning of warnings) assert.match(warning, /until it can only stored objects are known/)
    site.double.fault = () => undefined
    await site.synced()
    assert.deepEqual(site.services(), ['web 10.96.0.1'])
  })
})

suite('endpoints come from', () => {
  const served = [paths.services, paths.nodes]
  const addressesOf = ({ catalog }: Awaited<ReturnType<typeof followDouble>>) =>
    [...catalog.current.services.values()]
      .flatMap((service) => catalog.current.slicesOf(service))
      .flatMap(({ endpoints }) => endpoints.flatMap(({ addresses }) => addresses))
      .sort()

  test('EndpointSlices v1beta1 where there is no v1', async () => {
    await using site = await followDouble({
      served: [...served, paths.slicesV1beta1, paths.endpoints],
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.slicesV1beta1, sliceObject('web', ['10.0.0.1']))
        double.put(paths.endpoints, endpointsObject('web', ['10.0.0.9']))
      },
    })
    await site.synced()
    assert.deepEqual(addressesOf(site), ['10.0.0.1'])
    assert.equal(site.resource('endpointSlices')?.apiVersion, 'discovery.k8s.io/v1beta1')
    assert.deepEqual(site.warnings(), [])
  })

  test('Endpoints where slices are forbidden, as by the role of the Go system', async () => {
    await using site = await followDouble({
      served: [...served, paths.slicesV1, paths.endpoints],
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.endpoints, endpointsObject('web', ['10.0.0.9', '10.0.0.8']))
        double.fault = ({ path }) => (path.includes('discovery') ? { kind: 'status', status: 403 } : undefined)
      },
    })
    await site.synced()
    assert.deepEqual(addressesOf(site), ['10.0.0.8', '10.0.0.9'])
    assert.equal(site.resource('endpointSlices')?.apiVersion, 'v1')
    site.double.put(paths.endpoints, endpointsObject('web', ['10.0.0.7']))
    await until(() => addressesOf(site).join() === '10.0.0.7')
  })

  test('slices as soon as they are offered, and then no longer from Endpoints', async () => {
    await using site = await followDouble({
      served: [...served, paths.endpoints],
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.endpoints, endpointsObject('web', ['10.0.0.9']))
      },
    })
    await until(() => site.double.watches(paths.endpoints) === 1)
    site.double.serve(paths.slicesV1)
    site.double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
    await new Promise((resolve) => setTimeout(resolve, quickTiming.shortWatchMs))
    site.double.endWatches(paths.endpoints)
    await until(() => addressesOf(site).join() === '10.0.0.1')
    assert.equal(site.resource('endpointSlices')?.apiVersion, 'discovery.k8s.io/v1')
  })

  test('nowhere while none of them is offered, and that is an error that keeps the catalog waiting', async () => {
    await using site = await followDouble({ served })
    await until(() => site.resource('endpointSlices')?.state === 'waiting')
    assert.equal(site.catalog.isSynced, false)
    assert.match(site.resource('endpointSlices')?.lastError ?? '', /404/)
  })
})

suite('Nodes that are', () => {
  for (const [what, status] of [
    ['forbidden', 403],
    ['not served', 404],
  ] as const) {
    test(`${what} count as none, which is said once, and are asked for again`, async () => {
      await using site = await followDouble({
        prepare: (double) => {
          double.put(paths.nodes, nodeObject('edge-a'))
          double.fault = ({ path }) => (path === paths.nodes ? { kind: 'status', status } : undefined)
        },
      })
      await site.synced()
      assert.equal(site.catalog.current.nodes.size, 0)
      await until(() => site.double.lists(paths.nodes) > 3)
      assert.deepEqual(site.warnings(), [])
      assert.equal(site.logged.filter(({ message }) => message.includes('does not offer')).length, 1)
      assert.match(site.resource('nodes')?.notOffered ?? '', new RegExp(String(status)))
      site.double.fault = () => undefined
      await until(() => site.catalog.current.nodes.size === 1)
      assert.equal(site.resource('nodes')?.notOffered, undefined)
    })
  }

  test('forbidden only later stay as they were known', async () => {
    await using site = await followDouble({ prepare: (double) => double.put(paths.nodes, nodeObject('edge-a')) })
    await until(() => site.double.watches(paths.nodes) === 1)
    site.double.fault = ({ path }) => (path === paths.nodes ? { kind: 'status', status: 403 } : undefined)
    site.double.endWatches(paths.nodes, 'by reset')
    await until(() => site.resource('nodes')?.notOffered !== undefined)
    assert.equal(site.catalog.current.nodes.size, 1)
  })

  test('forbidden for a moment, as by an API server that has not read its roles yet, are followed again at once', async () => {
    await using site = await followDouble({
      prepare: (double) => double.put(paths.nodes, nodeObject('edge-a')),
      source: { timing: { ...quickTiming, recheckMs: 3_600_000 } },
    })
    await until(() => site.double.watches(paths.nodes) === 1)
    let refused = 0
    site.double.fault = ({ path }) => {
      if (path !== paths.nodes || refused === 3) return undefined
      refused += 1
      return { kind: 'status', status: 403 }
    }
    site.double.endWatches(paths.nodes, 'by reset')
    await until(() => refused === 3)
    site.double.put(paths.nodes, nodeObject('edge-b'))
    await until(() => site.catalog.current.nodes.size === 2)
    assert.equal(site.resource('nodes')?.state, 'watching')
  })
})

suite('metaServer', () => {
  const habits = { ignoresLimit: true, oddSelfLink: true, withoutHistory: true } as const
  const config = ({ url }: { readonly url: string }) => ({ metaServer: { server: url } })

  test('is not asked for bookmarks, and told nothing of a version', async () => {
    await using site = await followDouble({
      habits,
      config,
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
      },
    })
    await site.synced()
    const [watch] = site.double.requests.filter(isServiceWatch)
    assert.deepEqual([watch?.query.has('allowWatchBookmarks'), watch?.query.has('resourceVersion')], [false, false])
    assert.equal(site.source.status().origin, 'metaServer')
    assert.equal(site.source.status().reason, `metaServer answers at ${site.double.url}`)
  })

  test('loses no change between its list and its watch', async () => {
    let changes = 0
    await using site = await followDouble({
      habits,
      config,
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
        // Changes something at every request that could be the last one before the watch.
        double.fault = (request) => {
          if (isServices(request) && changes < 10) {
            changes += 1
            setImmediate(() => double.put(paths.services, serviceObject(`s${changes}`, `10.96.0.${changes + 1}`)))
          }
          return undefined
        }
      },
    })
    await site.synced()
    const held = () => [...site.catalog.current.services.values()].length
    await until(() => held() === changes + 1 && site.double.watches(paths.services) === 1)
  })

  test('that does not know a kind is asked for the next one, and what it knows nothing of is not taken away', async () => {
    const emptyList = { kind: 'body', text: '{"kind":"EndpointSliceList","metadata":{},"items":[]}' } as const
    await using site = await followDouble({
      habits,
      config,
      served: [paths.services, paths.slicesV1, paths.endpoints, paths.nodes],
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.endpoints, endpointsObject('web', ['10.0.0.9']))
        double.fault = ({ path, isWatch }) => (path.includes('discovery') && !isWatch ? emptyList : undefined)
      },
    })
    await site.synced()
    assert.equal(site.resource('endpointSlices')?.apiVersion, 'v1')
    // The cloud is away, and the store on the node was lost.
    site.double.fault = ({ isWatch }) => (isWatch ? undefined : emptyList)
    site.double.endWatches(paths.services)
    const isSaid = () =>
      site.resource('services')?.lastError?.includes('empty list without a resource version') === true
    await until(isSaid, () => site.resource('services'))
    assert.deepEqual(site.services(), ['web 10.96.0.1'])
  })

  test('that knows nothing of Nodes leaves those of an earlier run in force', async () => {
    for (const isWarm of [true, false]) {
      await using site = await followDouble({
        habits: { ...habits, withoutResourceVersion: true },
        config,
        source: { isWarm: () => isWarm },
        prepare: (double) => {
          double.put(paths.services, serviceObject('web'))
          double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
        },
      })
      await until(() => site.resource('nodes')?.notOffered !== undefined)
      await until(() => site.catalog.current.services.size === (isWarm ? 0 : 1))
      assert.equal(site.catalog.isSynced, !isWarm)
    }
  })

  test('is chosen as soon as it is there', async () => {
    await using site = await followDouble({
      habits,
      config,
      prepare: (double) => {
        double.put(paths.services, serviceObject('web'))
        double.put(paths.slicesV1, sliceObject('web', ['10.0.0.1']))
        double.fault = () => ({ kind: 'reset' })
      },
    })
    await until(() => site.source.status().reason.startsWith('metaServer: '))
    assert.equal(site.source.status().origin, undefined)
    assert.deepEqual(site.source.status().resources, [])
    site.double.fault = () => undefined
    await site.synced()
    assert.equal(site.source.status().origin, 'metaServer')
  })
})

test('requests keep to the rate that is set', async () => {
  await using site = await followDouble({
    config: ({ url }) => ({ master: url, qps: 20, burst: 1 }),
    prepare: (double) => double.put(paths.services, serviceObject('web')),
  })
  const startedAt = performance.now()
  await until(() => site.double.requests.length >= 6)
  // Three lists and three watches: the first goes at once, the other five 50 ms apart.
  assert.ok(performance.now() - startedAt >= 200)
})

test('as many requests as the burst allows go at once, however low the rate', async () => {
  await using site = await followDouble({
    config: ({ url }) => ({ master: url, qps: 0.01, burst: 6 }),
    prepare: (double) => double.put(paths.services, serviceObject('web')),
  })
  // At the rate alone the second one would go after 100 s.
  await until(() => [paths.services, paths.nodes, paths.slicesV1].every((path) => site.double.watches(path) === 1))
})

test('a disposed source leaves no connection behind', async () => {
  await using site = await followDouble({})
  await until(() => site.double.watches(paths.services) === 1)
  await site.source[Symbol.asyncDispose]()
  await until(() => [paths.services, paths.nodes, paths.slicesV1].every((path) => site.double.watches(path) === 0))
})
