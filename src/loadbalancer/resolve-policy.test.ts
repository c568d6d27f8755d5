import assert from 'node:assert/strict'
import { test } from 'node:test'
import { sampleService } from '../catalog/samples.ts'
import type { BalancingPolicy, DestinationRule, Service, ServicePort, TrafficPolicy } from '../model/index.ts'
import { backendsInSubset, isHttpPort, resolvePolicy } from './resolve-policy.ts'

const defaults = { balancing: { kind: 'round-robin' } } as const
const random: BalancingPolicy = { kind: 'random' }
const leastRequest: BalancingPolicy = { kind: 'least-request' }
const byHeader: BalancingPolicy = {
  kind: 'consistent-hash',
  key: { kind: 'http-header', name: 'x-user' },
  ring: { kind: 'ring' },
}
const ejection = { consecutiveErrors: 5, baseEjectionMs: 30_000, maxEjectionPercent: 10 }
const http: ServicePort = { name: 'http-0', protocol: 'tcp', port: 80 }

const service = (fields: Partial<Service> = {}) => sampleService({ ports: [http], ...fields })

function rule(trafficPolicy: TrafficPolicy, fields: Partial<DestinationRule> = {}): DestinationRule {
  return {
    namespace: 'shop',
    name: 'web',
    host: 'web',
    exportTo: [],
    trafficPolicy,
    portPolicies: [],
    subsets: [],
    ignored: [],
    ...fields,
  }
}

/** The outcome without subsets, which most tests do not look at. */
function resolve(rules: readonly DestinationRule[], port: ServicePort = http, of: Service = service()) {
  const { subsets: _, ...rest } = resolvePolicy(of, port, rules, defaults)
  return rest
}

test('without a rule the defaults hold', () => {
  assert.deepEqual(resolve([]), { balancing: defaults.balancing, readsRequests: false, notices: [] })
})

test('Services that ask for nothing share one policy, and others have their own', () => {
  const of = (fields: Partial<Service>) => resolvePolicy(service(fields), http, [], defaults)
  assert.equal(of({}), of({ name: 'api' }))
  assert.notEqual(of({}), of({ clientIPAffinitySeconds: 10 }))
  assert.equal(of({ clientIPAffinitySeconds: 10 }).affinitySeconds, 10)
  assert.equal(resolvePolicy(service(), http, [], { balancing: random }).balancing, random)
})

test('a rule decides balancing, ejection and limits, and is named', () => {
  const policy = { loadBalancer: random, outlierDetection: ejection, maxConnections: 10, connectTimeoutMs: 700 }
  assert.deepEqual(resolve([rule(policy)]), {
    balancing: random,
    balancingRule: 'shop/web',
    readsRequests: false,
    outlierDetection: ejection,
    maxConnections: 10,
    connectTimeoutMs: 700,
    notices: [],
  })
})

test('a rule says whether near backends come first, a subset may say otherwise', () => {
  const subsets = [
    { name: 'v1', labels: {}, trafficPolicy: { locality: 'none' } as const },
    { name: 'v2', labels: {} },
  ]
  const policy = resolvePolicy(service(), http, [rule({ locality: 'nearest' }, { subsets })], defaults)
  assert.equal(policy.locality, 'nearest')
  assert.deepEqual(
    [...policy.subsets.values()].map((subset) => subset.policy.locality),
    ['none', 'nearest'],
  )
  assert.equal(resolve([rule({})]).locality, undefined)
})

test('a rule without a loadBalancer leaves the default, which then is nobody else`s wish', () => {
  const { balancing, balancingRule } = resolve([rule({ maxConnections: 3 })])
  assert.deepEqual([balancing, balancingRule], [defaults.balancing, undefined])
})

test('the policy of a port replaces the whole policy of the rule, for this port alone', () => {
  const wide = rule(
    { loadBalancer: random, maxConnections: 10 },
    { portPolicies: [{ port: 80, trafficPolicy: { outlierDetection: ejection } }] },
  )
  assert.deepEqual(resolve([wide]), {
    balancing: defaults.balancing,
    readsRequests: false,
    outlierDetection: ejection,
    notices: [],
  })
  assert.equal(resolve([wide], { ...http, port: 81 }).maxConnections, 10)
})

test('session affinity of the Service wins over the balancing of the rule, with a notice, and leaves the rest', () => {
  const sticky = service({ clientIPAffinitySeconds: 600 })
  assert.deepEqual(resolve([rule({ loadBalancer: byHeader, maxConnections: 2 })], http, sticky), {
    balancing: defaults.balancing,
    readsRequests: false,
    affinitySeconds: 600,
    maxConnections: 2,
    notices: [
      'DestinationRule shop/web: its loadBalancer is ignored, because Service shop/web has sessionAffinity ClientIP',
    ],
  })
  assert.deepEqual(resolve([rule({ maxConnections: 2 })], http, sticky).notices, [])
})

test('a key from requests is followed for HTTP ports only', () => {
  assert.equal(resolve([rule({ loadBalancer: byHeader })]).readsRequests, true)
  const bytes = resolve([rule({ loadBalancer: byHeader })], { ...http, name: 'db' })
  assert.deepEqual(bytes, {
    balancing: defaults.balancing,
    readsRequests: false,
    notices: [
      'DestinationRule shop/web: its consistentHash is ignored for shop/web:db/tcp, which is not HTTP; ' +
        'name the port http-..., or set its appProtocol to http',
    ],
  })
})

test('the source address as key reads no request and works for every port', () => {
  const bySource: BalancingPolicy = { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring: { kind: 'maglev' } }
  const { balancing, readsRequests, notices } = resolve([rule({ loadBalancer: bySource })], {
    ...http,
    protocol: 'udp',
  })
  assert.deepEqual([balancing, readsRequests, notices], [bySource, false, []])
})

test('what the product does not do is told once', () => {
  const odd = rule({}, { ignored: ['warmup is not done'], subsets: [{ name: 'v1', labels: {} }] })
  assert.deepEqual(resolve([odd, odd]).notices, ['DestinationRule shop/web: warmup is not done'])
})

test('of several rules the first one`s policy counts, and the subsets of all', () => {
  const first = rule({ loadBalancer: random }, { subsets: [{ name: 'v1', labels: { v: '1' } }] })
  const second = rule(
    { loadBalancer: leastRequest },
    {
      name: 'more',
      subsets: [
        { name: 'v1', labels: { v: 'other' } },
        { name: 'v2', labels: { v: '2' } },
      ],
    },
  )
  const { balancing, subsets, notices } = resolvePolicy(service(), http, [first, second], defaults)
  assert.deepEqual(balancing, random)
  assert.deepEqual(
    [...subsets.values()].map(({ name, labels }) => [name, labels]),
    [
      ['v1', { v: '1' }],
      ['v2', { v: '2' }],
    ],
  )
  assert.deepEqual(notices, ['DestinationRule shop/more: its policy is ignored, because shop/web has the same host'])
})

test('a subset changes what it names and keeps the rest', () => {
  const owner = rule(
    { loadBalancer: random, maxConnections: 10, connectTimeoutMs: 500, outlierDetection: ejection },
    { subsets: [{ name: 'v1', labels: {}, trafficPolicy: { loadBalancer: leastRequest, maxConnections: 3 } }] },
  )
  const { subsets } = resolvePolicy(service(), http, [owner], defaults)
  assert.deepEqual(subsets.get('v1')?.policy, {
    balancing: leastRequest,
    balancingRule: 'shop/web',
    readsRequests: false,
    outlierDetection: ejection,
    maxConnections: 3,
  })
})

test('a subset holds the backends whose Pods have all its labels', () => {
  const backends = ['p1', 'p2', 'p3', ''].map((podName, index) => ({ address: `10.0.0.${index}`, port: 80, podName }))
  const labels: Record<string, Record<string, string>> = { p1: { v: '1', x: 'y' }, p2: { v: '2' }, p3: { v: '1' } }
  const chosen = (wanted: Record<string, string>) =>
    backendsInSubset(backends, { labels: wanted }, ({ podName }) => labels[podName ?? '']).map(({ podName }) => podName)
  assert.deepEqual(chosen({ v: '1' }), ['p1', 'p3'])
  assert.deepEqual(chosen({ v: '1', x: 'y' }), ['p1'])
  assert.deepEqual(chosen({ v: '3' }), [])
  assert.deepEqual(chosen({}), ['p1', 'p2', 'p3', ''])
})

test('ports are HTTP by appProtocol, or else by name', () => {
  const isHttp = (name: string, appProtocol?: string) =>
    isHttpPort({ name, protocol: 'tcp', port: 80, ...(appProtocol === undefined ? {} : { appProtocol }) })
  for (const name of ['http', 'http-web', 'http-0']) assert.ok(isHttp(name), name)
  for (const name of ['', 'web', 'https', 'http2', 'http2-x', 'grpc', 'httpx', 'tcp-http'])
    assert.ok(!isHttp(name), name)
  for (const appProtocol of ['http', 'HTTP', 'kubernetes.io/ws']) assert.ok(isHttp('web', appProtocol), appProtocol)
  for (const appProtocol of ['https', 'kubernetes.io/h2c', 'kubernetes.io/wss', 'grpc', 'http2', 'tcp', '']) {
    assert.ok(!isHttp('http', appProtocol), appProtocol)
  }
  assert.ok(!isHttpPort({ name: 'http', protocol: 'udp', port: 80 }))
})
