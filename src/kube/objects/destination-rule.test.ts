import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { BalancingPolicy } from '../../model/index.ts'
import { parseDestinationRule } from './destination-rule.ts'
import { Field } from './field.ts'
import { parseDurationMs } from './go-duration.ts'
import { parsePod } from './pod.ts'

const metadata = { name: 'web', namespace: 'shop' }
const ruleOf = (spec: unknown) => parseDestinationRule({ metadata, spec })
const policyOf = (trafficPolicy: unknown) => ruleOf({ host: 'web', trafficPolicy })

/** The policy of a load balancer, and what is ignored of it. */
function balancerOf(loadBalancer: unknown): [BalancingPolicy | undefined, readonly string[]] {
  const { trafficPolicy, ignored } = policyOf({ loadBalancer })
  return [trafficPolicy.loadBalancer, ignored.map((text) => text.replace('spec.trafficPolicy.loadBalancer.', ''))]
}

suite('a DestinationRule', () => {
  test('keeps what is done here', () => {
    const spec = {
      host: 'web.shop.svc.cluster.local',
      exportTo: ['.', 'other'],
      trafficPolicy: {
        loadBalancer: { simple: 'RANDOM' },
        connectionPool: { tcp: { maxConnections: 100, connectTimeout: '30ms' } },
        outlierDetection: { consecutive5xxErrors: 7, baseEjectionTime: '3m', maxEjectionPercent: 100 },
        portLevelSettings: [{ port: { number: 80 }, loadBalancer: { simple: 'LEAST_REQUEST' } }],
      },
      subsets: [
        { name: 'v1', labels: { version: 'v1' } },
        { name: 'v2', labels: { version: 'v2' }, trafficPolicy: { loadBalancer: { simple: 'ROUND_ROBIN' } } },
      ],
    }
    assert.deepEqual(ruleOf(spec), {
      ...metadata,
      host: 'web.shop.svc.cluster.local',
      exportTo: ['.', 'other'],
      trafficPolicy: {
        loadBalancer: { kind: 'random' },
        outlierDetection: { consecutiveErrors: 7, baseEjectionMs: 180_000, maxEjectionPercent: 100 },
        maxConnections: 100,
        connectTimeoutMs: 30,
      },
      portPolicies: [{ port: 80, trafficPolicy: { loadBalancer: { kind: 'least-request' } } }],
      subsets: [
        { name: 'v1', labels: { version: 'v1' } },
        { name: 'v2', labels: { version: 'v2' }, trafficPolicy: { loadBalancer: { kind: 'round-robin' } } },
      ],
      ignored: [],
    })
  })

  test('says nothing about traffic where it says nothing', () => {
    const plain = { ...metadata, exportTo: [], trafficPolicy: {}, portPolicies: [], subsets: [], ignored: [] }
    assert.deepEqual(ruleOf({ host: 'web' }), { ...plain, host: 'web' })
    const nothing = { loadBalancer: null, connectionPool: {}, outlierDetection: null, portLevelSettings: null }
    assert.deepEqual(ruleOf({ host: 'web', trafficPolicy: nothing, subsets: null }), { ...plain, host: 'web' })
  })

  test('names each simple policy as the API did over time', () => {
    for (const [simple, kind] of [
      ['ROUND_ROBIN', 'round-robin'],
      ['RANDOM', 'random'],
      ['LEAST_REQUEST', 'least-request'],
      ['LEAST_CONN', 'least-request'],
      ['PASSTHROUGH', 'passthrough'],
    ] as const) {
      assert.deepEqual(balancerOf({ simple }), [{ kind }, []])
    }
    for (const simple of ['UNSPECIFIED', '', null]) assert.deepEqual(balancerOf({ simple }), [undefined, []])
  })

  test('hashes by each key, over each kind of ring', () => {
    const hash = (key: object, ring: object = { kind: 'ring' }) => [{ kind: 'consistent-hash', key, ring }, []]
    const cases: [object, unknown][] = [
      [{ useSourceIp: true }, hash({ kind: 'source-ip' })],
      [{ httpHeaderName: 'x-user' }, hash({ kind: 'http-header', name: 'x-user' })],
      [{ httpQueryParameterName: 'user' }, hash({ kind: 'query-parameter', name: 'user' })],
      [{ httpCookie: { name: 'c' } }, hash({ kind: 'http-cookie', name: 'c' })],
      [{ httpCookie: { name: 'c', ttl: '0s' } }, hash({ kind: 'http-cookie', name: 'c', ttlMs: 0 })],
      [
        { httpCookie: { name: 'c', path: '/a', ttl: '1h' } },
        hash({ kind: 'http-cookie', name: 'c', path: '/a', ttlMs: 3_600_000 }),
      ],
      [{ useSourceIp: true, minimumRingSize: 64 }, hash({ kind: 'source-ip' }, { kind: 'ring', minimumSize: 64 })],
      [
        { useSourceIp: true, ringHash: { minimumRingSize: '2048' } },
        hash({ kind: 'source-ip' }, { kind: 'ring', minimumSize: 2048 }),
      ],
      [{ useSourceIp: true, maglev: {} }, hash({ kind: 'source-ip' }, { kind: 'maglev' })],
      [
        { useSourceIp: true, maglev: { tableSize: 65_537 } },
        hash({ kind: 'source-ip' }, { kind: 'maglev', tableSize: 65_537 }),
      ],
    ]
    for (const [consistentHash, expected] of cases) assert.deepEqual(balancerOf({ consistentHash }), expected)
  })

  test('says whether near endpoints come first, and nothing of regions and zones', () => {
    const localityOf = (localityLbSetting: unknown) => {
      const { trafficPolicy, ignored } = policyOf({ loadBalancer: { simple: 'RANDOM', localityLbSetting } })
      return [trafficPolicy.locality, ignored.length]
    }
    assert.deepEqual(localityOf(undefined), [undefined, 0])
    assert.deepEqual(localityOf({}), ['nearest', 0])
    assert.deepEqual(localityOf({ enabled: false }), ['none', 0])
    assert.deepEqual(localityOf({ enabled: true, failover: [{ from: 'a', to: 'b' }] }), ['nearest', 1])
    assert.deepEqual(localityOf({ enabled: 'maybe' }), [undefined, 1])
  })

  test('says in words what of a balancer is not done, and does the rest', () => {
    const sourceIp = { kind: 'consistent-hash', key: { kind: 'source-ip' }, ring: { kind: 'ring' } }
    assert.deepEqual(balancerOf({ simple: 'FASTEST' }), [undefined, ['simple: is not supported, found "FASTEST"']])
    assert.deepEqual(balancerOf({ simple: 'constructor' })[0], undefined)
    assert.deepEqual(balancerOf({ simple: 'RANDOM', warmup: { duration: '1s' } }), [
      { kind: 'random' },
      ['warmup: is not supported, found {"duration":"1s"}'],
    ])
    assert.deepEqual(balancerOf({ consistentHash: { useSourceIp: true, ringHash: { minimumRingSize: 'big' } } }), [
      sourceIp,
      ['consistentHash.ringHash.minimumRingSize: must be a whole number from 0 to 8388608, found "big"'],
    ])
    assert.deepEqual(balancerOf({ simple: 'RANDOM', consistentHash: { useSourceIp: false } }), [
      { kind: 'random' },
      [
        'consistentHash: needs one of httpHeaderName, httpCookie, useSourceIp, httpQueryParameterName, found {"useSourceIp":false}',
      ],
    ])
    const [first, notes] = balancerOf({ consistentHash: { useSourceIp: true, httpHeaderName: 'x' } })
    assert.deepEqual(first, { ...sourceIp, key: { kind: 'http-header', name: 'x' } })
    assert.match(notes.join(), /^consistentHash: names several keys, of which the first counts/)
    assert.match(balancerOf({ consistentHash: { httpCookie: { ttl: '1s' } } })[1].join(), /httpCookie.name: is missing/)
  })

  test('counts the smallest number of errors that is in force, and none when all are switched off', () => {
    const detectionOf = (outlierDetection: object) => policyOf({ outlierDetection }).trafficPolicy.outlierDetection
    const usual = { consecutiveErrors: 5, baseEjectionMs: 30_000, maxEjectionPercent: 10 }
    assert.deepEqual(detectionOf({}), usual)
    assert.deepEqual(detectionOf({ consecutiveErrors: 3 }), { ...usual, consecutiveErrors: 3 })
    const several = { consecutiveGatewayErrors: 0, consecutive5xxErrors: 9, consecutiveLocalOriginFailures: 2 }
    assert.deepEqual(detectionOf(several), { ...usual, consecutiveErrors: 2 })
    assert.equal(detectionOf({ consecutive5xxErrors: 0 }), undefined)
    const odd = policyOf({ outlierDetection: { interval: '1s', baseEjectionTime: 'soon', maxEjectionPercent: 101 } })
    assert.deepEqual(odd.trafficPolicy.outlierDetection, usual)
    assert.equal(odd.ignored.length, 3)
  })

  test('is never refused for what it says, however odd that is', () => {
    const odd: [unknown, RegExp][] = [
      ['text', /^spec: must be a map/],
      [undefined, /^spec.host: is missing/],
      [{ host: 7 }, /^spec.host: must be text/],
      [{ host: 'web', exportTo: 'all' }, /^spec.exportTo: must be a list/],
      [{ host: 'web', trafficPolicy: [] }, /^spec.trafficPolicy: must be a map, found \[\]$/],
      [{ host: 'web', trafficPolicy: { loadBalancer: 'RANDOM' } }, /^spec.trafficPolicy.loadBalancer: must be a map/],
      [{ host: 'web', trafficPolicy: { connectionPool: { http: {} } } }, /connectionPool.http: is not supported/],
      [{ host: 'web', trafficPolicy: { connectionPool: { tcp: 1 } } }, /connectionPool.tcp: must be a map/],
      [{ host: 'web', trafficPolicy: { outlierDetection: 1 } }, /outlierDetection: must be a map/],
      [{ host: 'web', trafficPolicy: { portLevelSettings: [{}] } }, /portLevelSettings\[0\].port.number: is missing/],
      [{ host: 'web', subsets: [{ labels: {} }] }, /^spec.subsets\[0\].name: is missing/],
      [{ host: 'web', subsets: [{ name: 'v1', labels: { a: 1 } }] }, /^spec.subsets\[0\].labels.a: must be text/],
      [
        { host: 'web', subsets: [{ name: 'v1', trafficPolicy: { portLevelSettings: [] } }] },
        /^spec.subsets\[0\].trafficPolicy.portLevelSettings: is not supported in a subset/,
      ],
      [{ host: 'web', workloadSelector: {} }, /^spec.workloadSelector: is not supported/],
    ]
    for (const [spec, ignored] of odd) {
      const rule = ruleOf(spec)
      assert.equal(rule.name, 'web')
      assert.match(rule.ignored[0] ?? '', ignored)
    }
    assert.throws(() => parseDestinationRule({ metadata: {} }), /metadata.name/)
  })

  test('tells a note for each thing that it ignores', () => {
    const notes: string[] = []
    const spec = { host: 'web', trafficPolicy: { tls: {}, loadBalancer: { simple: 'X' } } }
    const { ignored } = parseDestinationRule({ metadata, spec }, ({ message }) => notes.push(message))
    assert.deepEqual([notes, notes.length], [ignored, 2])
  })
})

test('durations are read in all of their units, and other text is refused', () => {
  const cases: [unknown, number | undefined][] = [
    ['1h', 3_600_000],
    ['1m30s', 90_000],
    ['0.5s', 500],
    ['100ms', 100],
    ['1500us', 1.5],
    ['0s', 0],
    [undefined, undefined],
  ]
  for (const [value, expected] of cases) assert.equal(parseDurationMs(new Field(value)), expected)
  for (const value of ['', '0', '1', 's', '1d', '-1s', '1s ', '1.s', 5])
    assert.throws(() => parseDurationMs(new Field(value)))
})

suite('a Pod', () => {
  const podOf = (status: object, spec: object = { nodeName: 'edge-a' }) =>
    parsePod({ metadata: { ...metadata, labels: { app: 'web' }, uid: 'u' }, spec, status })
  const ready = { conditions: [{ type: 'PodScheduled' }, { type: 'Ready', status: 'True' }] }

  test('keeps its labels, node, addresses and whether it is ready', () => {
    const status = { ...ready, phase: 'Running', podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }, { ip: 'FD00:0::1' }] }
    const podIPs = ['10.0.0.1', 'fd00::1']
    assert.deepEqual(podOf(status), { ...metadata, labels: { app: 'web' }, nodeName: 'edge-a', podIPs, ready: true })
    assert.deepEqual(podOf({ podIP: '10.0.0.1', conditions: [{ type: 'Ready', status: 'False' }] }), {
      ...metadata,
      labels: { app: 'web' },
      nodeName: 'edge-a',
      podIPs: ['10.0.0.1'],
      ready: false,
    })
  })

  test('has no address before it has one, and none after it has ended', () => {
    const { podIPs, ready: isReady, nodeName } = podOf({ phase: 'Pending' }, {})
    assert.deepEqual([podIPs, isReady, nodeName], [[], false, undefined])
    for (const phase of ['Succeeded', 'Failed']) {
      const ended = podOf({ ...ready, phase, podIP: '10.0.0.1', podIPs: [{ ip: '10.0.0.1' }] })
      assert.deepEqual([ended.podIPs, ended.ready], [[], false])
    }
  })

  test('survives odd conditions, and is refused only for an address that is its only one', () => {
    assert.deepEqual(podOf({ conditions: 'none', podIPs: [{ ip: 'x' }, { ip: '10.0.0.1' }] }).podIPs, ['10.0.0.1'])
    assert.throws(() => podOf({ podIP: 'x' }), /status.podIP: must be an IP address/)
  })
})
