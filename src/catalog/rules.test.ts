import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { type DestinationRule, keyOf, type Service } from '../model/index.ts'
import { createCatalog } from './index.ts'
import { sampleEndpoint, samplePod, sampleRule, sampleService, sampleSlice } from './samples.ts'

/** A synced catalog with these Services that publishes when it is told to. */
function startCatalog(services: readonly Service[], rules: readonly DestinationRule[] = []) {
  let due: (() => void) | undefined
  const catalog = createCatalog({
    schedule: (_delay, callback) => {
      due = callback
      return { [Symbol.dispose]() {} }
    },
  })
  catalog.replace('destinationRules', rules)
  catalog.replace('services', services)
  catalog.replace('endpointSlices', [sampleSlice()])
  catalog.replace('nodes', [])
  const publish = () => {
    due?.()
    due = undefined
    return catalog.current
  }
  return { catalog, publish, isDue: () => due !== undefined }
}

const web = sampleService()
const api = sampleService({ name: 'api', clusterIPs: ['10.96.0.2'] })
const otherWeb = sampleService({ namespace: 'other', clusterIPs: ['10.96.0.3'] })

/** The keys of the rules of each Service, by its key. */
function rulesFor(...rules: readonly DestinationRule[]): Record<string, string[]> {
  const services = [web, api, otherWeb]
  const { current } = startCatalog(services, rules).catalog
  return Object.fromEntries(services.map((service) => [keyOf(service), current.destinationRulesOf(service).map(keyOf)]))
}

const rule = (name: string, host: string, changes: Partial<DestinationRule> = {}) =>
  sampleRule({ name, host, ...changes })

suite('the rules of a Service', () => {
  test('are those whose host names it, short or in full', () => {
    for (const host of [
      'web',
      'web.shop',
      'web.shop.svc',
      'web.shop.svc.cluster.local',
      'WEB.shop.svc.cluster.local.',
    ]) {
      assert.deepEqual(rulesFor(rule('r', host)), { 'shop/web': ['shop/r'], 'shop/api': [], 'other/web': [] }, host)
    }
    assert.deepEqual(rulesFor(rule('r', 'web.other'))['other/web'], ['shop/r'])
    assert.deepEqual(rulesFor(rule('r', 'web', { namespace: 'other' }))['other/web'], ['other/r'])
  })

  test('are not those of hosts elsewhere, or of hosts that are none', () => {
    for (const host of ['', '.', 'web.example.org', 'web.shop.example', 'x*.shop', '*.example.org', '*.web.shop.svc']) {
      assert.deepEqual(Object.values(rulesFor(rule('r', host))).flat(), [], host)
    }
  })

  test('are without any host that fits those of its name, as in the Go system', () => {
    const deployment = rule('web', 'hostname-lb-edge')
    assert.deepEqual(rulesFor(deployment)['shop/web'], ['shop/web'])
    assert.deepEqual(rulesFor(deployment)['other/web'], [])
    assert.deepEqual(rulesFor(deployment, rule('r', 'web'))['shop/web'], ['shop/r'])
  })

  test('come from the namespaces that export them to it', () => {
    const from = (exportTo: readonly string[], namespace = 'infra') =>
      rulesFor(rule('r', 'web.shop', { namespace, exportTo }))['shop/web']
    assert.deepEqual(from([]), ['infra/r'])
    assert.deepEqual(from(['*']), ['infra/r'])
    assert.deepEqual(from(['other', 'shop']), ['infra/r'])
    assert.deepEqual([from(['.']), from(['~']), from(['other'])], [[], [], []])
    assert.deepEqual(from(['.'], 'shop'), ['shop/r'])
    assert.deepEqual(rulesFor(rule('web', 'web', { exportTo: ['other'] }))['shop/web'], [])
  })

  test('begin with its own namespace, then go by name, and end with wildcards, the widest last', () => {
    const wide = rule('a', '*.local', { namespace: 'infra' })
    const namespaced = rule('b', '*.shop.svc.cluster.local', { namespace: 'infra' })
    const foreign = ['d', 'c'].map((name) => rule(name, 'web.shop.svc', { namespace: 'infra' }))
    const own = ['f', 'e'].map((name) => rule(name, 'web'))
    assert.deepEqual(rulesFor(wide, namespaced, ...foreign, ...own), {
      'shop/web': ['shop/e', 'shop/f', 'infra/c', 'infra/d', 'infra/b', 'infra/a'],
      'shop/api': ['infra/b', 'infra/a'],
      'other/web': ['infra/a'],
    })
    for (const host of ['*', '*.local', '*.cluster.local', '*.svc.cluster.local', '*.svc']) {
      assert.deepEqual(Object.values(rulesFor(rule('r', host))), [['shop/r'], ['shop/r'], ['shop/r']], host)
    }
    assert.deepEqual(Object.values(rulesFor(rule('r', '*.other'))), [[], [], ['shop/r']])
  })
})

suite('a change of a rule', () => {
  test('reaches the Services that it is for, now or before, and leaves the lists of all others as they were', () => {
    const { catalog, publish } = startCatalog([web, api, otherWeb], [rule('r', 'web'), rule('s', 'api')])
    const before = catalog.current
    assert.equal(before.destinationRules.size, 2)
    catalog.put('destinationRules', rule('r', 'web.other'))
    const after = publish()
    assert.deepEqual(after.destinationRulesOf(web), [])
    assert.deepEqual(after.destinationRulesOf(otherWeb).map(keyOf), ['shop/r'])
    assert.equal(after.destinationRulesOf(api), before.destinationRulesOf(api))
    assert.deepEqual(before.destinationRulesOf(web).map(keyOf), ['shop/r'])
    assert.equal(after.services, before.services)
    catalog.remove('destinationRules', 'shop/r')
    assert.deepEqual(publish().destinationRulesOf(otherWeb), [])
    assert.deepEqual([...catalog.current.destinationRules.keys()], ['shop/s'])
  })

  test('makes the backends of its Services anew, so that consumers look at them again', () => {
    const { catalog, publish } = startCatalog([web, api], [])
    const [port] = web.ports
    assert.ok(port)
    const before = catalog.current.backendsOf(web, port)
    catalog.put('destinationRules', rule('s', 'api'))
    assert.equal(publish().backendsOf(web, port), before)
    catalog.put('destinationRules', rule('r', 'web'))
    const after = publish().backendsOf(web, port)
    assert.notEqual(after, before)
    assert.deepEqual(after, before)
  })

  test('with a wildcard reaches all Services that it covers, also those that come later', () => {
    const { catalog, publish } = startCatalog([web])
    catalog.put('destinationRules', rule('r', '*.shop.svc.cluster.local'))
    assert.deepEqual(publish().destinationRulesOf(web).map(keyOf), ['shop/r'])
    catalog.put('services', api)
    assert.deepEqual(publish().destinationRulesOf(api).map(keyOf), ['shop/r'])
  })

  test('that changes nothing publishes nothing', () => {
    const { catalog, isDue } = startCatalog([web], [rule('r', 'web')])
    catalog.put('destinationRules', rule('r', 'web'))
    catalog.remove('destinationRules', 'shop/unknown')
    assert.equal(isDue(), false)
  })
})

suite('Pods', () => {
  const endpoint = sampleEndpoint('10.0.0.1', { pod: { namespace: 'shop', name: 'web-0' } })

  test('are found by namespace and name, and an old snapshot keeps those of its time', () => {
    const { catalog, publish } = startCatalog([web])
    catalog.replace('pods', [samplePod(), samplePod({ name: 'web-1' })])
    const before = publish()
    assert.deepEqual(before.podOf('shop', 'web-0'), samplePod())
    assert.equal(before.podOf('other', 'web-0'), undefined)
    catalog.put('pods', samplePod({ labels: { version: 'v2' } }))
    catalog.remove('pods', 'shop/web-1')
    const after = publish()
    assert.deepEqual(
      [after.podOf('shop', 'web-0')?.labels, after.podOf('shop', 'web-1')],
      [{ version: 'v2' }, undefined],
    )
    assert.deepEqual([before.podOf('shop', 'web-0')?.labels, before.podOf('shop', 'web-1')?.name], [{}, 'web-1'])
  })

  test('touch the Services whose endpoints they are only where a rule tells Pods apart', () => {
    const [port] = web.ports
    assert.ok(port)
    const subsets = [{ name: 'v1', labels: { version: 'v1' } }]
    for (const [rules, isTouched] of [
      [[rule('r', 'web', { subsets })], true],
      [[rule('r', '*', { subsets })], true],
      [[rule('r', 'web')], false],
      [[rule('r', 'api', { subsets })], false],
    ] as const) {
      const { catalog, publish } = startCatalog([web, api], rules)
      catalog.put('endpointSlices', sampleSlice({ endpoints: [endpoint] }))
      const before = publish().backendsOf(web, port)
      catalog.put('pods', samplePod({ labels: { version: 'v1' } }))
      assert.equal(publish().backendsOf(web, port) !== before, isTouched)
      const known = catalog.current.backendsOf(web, port)
      catalog.put('pods', samplePod({ name: 'stranger' }))
      assert.equal(publish().backendsOf(web, port), known)
    }
  })

  test('are nothing that the first snapshot waits for, unless it is told to', () => {
    assert.equal(startCatalog([]).catalog.isSynced, true)
    const catalog = createCatalog({ awaits: ['services', 'pods'] })
    catalog.replace('services', [])
    assert.equal(catalog.isSynced, false)
    catalog.replace('pods', [])
    assert.deepEqual([catalog.isSynced, catalog.current.sequence], [true, 1])
  })
})
