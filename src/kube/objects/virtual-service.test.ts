import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HttpRule } from '../../model/index.ts'
import { ObjectParseError } from './field.ts'
import { parseVirtualService } from './virtual-service.ts'

const metadata = { namespace: 'shop', name: 'web' }
const route = [{ destination: { host: 'web', port: { number: 80 } } }]
const noChanges = { set: {}, add: {}, remove: [] }
const unchanged = { request: noChanges, response: noChanges }
const toWeb = {
  kind: 'forward',
  destinations: [{ host: 'web', port: 80, weight: 1, headers: unchanged }],
  mirrors: [],
}

function serviceOf(spec: object) {
  return parseVirtualService({ metadata, spec: { hosts: ['*'], gateways: ['front'], ...spec } })
}

function ruleOf(rule: object): HttpRule {
  const [parsed] = serviceOf({ http: [rule] }).http
  assert.ok(parsed)
  return parsed
}

/** The words about one rule. */
function wordsOf(rule: object): {
  readonly ignored: string
  readonly problems: string
  readonly rule: HttpRule | undefined
} {
  const { ignored, problems, http } = serviceOf({ http: [rule] })
  return { ignored: ignored.join('\n'), problems: problems.join('\n'), rule: http[0] }
}

test('a VirtualService names hosts, gateways and who sees it', () => {
  const object = parseVirtualService({
    metadata: { ...metadata, creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: { hosts: ['Shop.Example.org', '*.example.com'], gateways: ['front', 'edge/front', 'mesh'], exportTo: ['.'] },
  })
  assert.deepEqual(object, {
    ...metadata,
    createdAt: '2026-01-01T00:00:00Z',
    hosts: ['shop.example.org', '*.example.com'],
    gateways: ['front', 'edge/front', 'mesh'],
    exportTo: ['.'],
    http: [],
    tls: [],
    tcp: [],
    ignored: [],
    problems: [],
  })
  assert.deepEqual(parseVirtualService({ metadata, spec: { hosts: ['a'] } }).gateways, ['mesh'])
  assert.match(parseVirtualService({ metadata, spec: {} }).problems.join(), /spec.hosts: is missing/)
  assert.throws(() => parseVirtualService({ metadata: {} }), ObjectParseError)
})

test('a rule without conditions forwards everything to its destinations', () => {
  assert.deepEqual(ruleOf({ route }), { name: '#0', action: toWeb, headers: unchanged })
  assert.equal(ruleOf({ name: 'all', route }).name, 'all')
})

test('every condition of a match is read', () => {
  const { match } = ruleOf({
    match: [
      {
        name: 'm',
        uri: { prefix: '/api' },
        ignoreUriCase: true,
        scheme: { exact: 'https' },
        method: { regex: 'GET|HEAD' },
        authority: { prefix: 'shop' },
        headers: { 'X-User': { exact: 'a' }, 'X-Any': {} },
        withoutHeaders: { 'X-Bot': { regex: '.*' } },
        queryParams: { Page: { exact: '1' } },
        port: 8080,
        gateways: ['front'],
      },
      {},
    ],
    route,
  })
  assert.deepEqual(match, [
    {
      uri: { kind: 'prefix', value: '/api' },
      ignoreUriCase: true,
      scheme: { kind: 'exact', value: 'https' },
      method: { kind: 'regex', value: 'GET|HEAD' },
      authority: { kind: 'prefix', value: 'shop' },
      headers: [
        { name: 'x-user', match: { kind: 'exact', value: 'a' } },
        { name: 'x-any', match: { kind: 'present' } },
      ],
      withoutHeaders: [{ name: 'x-bot', match: { kind: 'regex', value: '.*' } }],
      queryParams: [{ name: 'Page', match: { kind: 'exact', value: '1' } }],
      port: 8080,
      gateways: ['front'],
    },
    { ignoreUriCase: false, headers: [], withoutHeaders: [], queryParams: [], gateways: [] },
  ])
})

test('a match that cannot be told never holds, and its rule does not become one for everything', () => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ sourceLabels: { app: 'a' } }, /match\[0\].sourceLabels: cannot be told of clients outside/],
    [{ sourceNamespace: 'x' }, /sourceNamespace: cannot be told/],
    [{ uri: { suffix: '/x' } }, /uri.suffix: is no way to compare/],
    [{ uri: { exact: '/', prefix: '/' } }, /uri: must have only one of/],
    [{ port: 'http' }, /port: must be a whole number/],
  ]
  for (const [match, problem] of cases) {
    const { problems, rule } = wordsOf({ match: [match], route })
    assert.match(problems, problem)
    assert.deepEqual(rule?.match, [])
  }
})

test('a rule that cannot be followed answers with the reason instead of being passed over', () => {
  const cases: readonly (readonly [object, RegExp])[] = [
    [{ delegate: { name: 'other' } }, /http\[0\].delegate: is not supported; write the routes/],
    [{}, /http\[0\]: must have one of route, redirect and directResponse/],
    [{ route, redirect: { uri: '/' } }, /must have one of/],
    [{ route: [] }, /route: must have a destination/],
    [{ route: [{ destination: {} }] }, /destination.host: is missing/],
    [{ route: [{ destination: { host: '*.a' } }] }, /host: must be one Service/],
    [{ route: [...route, ...route] }, /route: must have a destination with a weight above 0/],
    [{ route, timeout: 'soon' }, /timeout: must be a duration such as/],
    [{ route, rewrite: { uri: '/', uriRegexRewrite: {} } }, /uriRegexRewrite: must not be there together/],
    [{ redirect: { redirectCode: 200 } }, /redirectCode: must be one of 301/],
    [{ redirect: { derivePort: 'X' } }, /derivePort: must be/],
    [{ directResponse: {} }, /directResponse.status: is missing/],
    [{ route, fault: { abort: { percentage: { value: 1 } } } }, /httpStatus: is missing/],
    [
      { route, fault: { abort: { percentage: { value: 101 }, httpStatus: 500 } } },
      /value: must be a number from 0 to 100/,
    ],
    [{ route, headers: { request: { set: { 'a b': 'x' } } } }, /must be named by a header/],
    [{ route, headers: { response: { add: { x: 'a\r\nb: c' } } } }, /add\.x: must not hold line ends/],
    [{ route, rewrite: { uri: '/a\r\nx: y' } }, /rewrite.uri: must be percent-encoded/],
    [{ route, rewrite: { authority: 'a b' } }, /rewrite.authority: must be percent-encoded/],
    [{ redirect: { uri: '/a\r\nset-cookie: x' } }, /redirect.uri: must be percent-encoded/],
    [{ route, corsPolicy: { allowMethods: ['GET\r\nx: y'] } }, /allowMethods\[0\]: must not hold line ends/],
    [{ route, headers: { response: { add: { a: 'x\r\ny' } } } }, /must not hold line ends/],
  ]
  for (const [rule, problem] of cases) {
    const { problems, rule: parsed } = wordsOf({ match: [{ uri: { prefix: '/a' } }], ...rule })
    assert.match(problems, problem)
    assert.equal(parsed?.action.kind, 'broken')
    assert.equal(parsed?.match?.length, 1)
  }
})

test('forwarding is read with all its policies', () => {
  const { action, headers, cors, fault } = ruleOf({
    route: [
      {
        destination: { host: 'WEB.other.svc.cluster.local.', subset: 'v1' },
        weight: 75,
        headers: { request: { set: { 'X-A': '1' }, add: { 'X-B': '2' }, remove: ['X-C'] } },
      },
      { destination: { host: 'web', port: { number: 81 } }, weight: 25 },
    ],
    rewrite: { uri: '/v1', authority: 'inner' },
    timeout: '1.5s',
    retries: { attempts: 3, perTryTimeout: '250ms', retryOn: '5xx, connect-failure,418' },
    mirror: { host: 'shadow' },
    mirrorPercentage: { value: 12.5 },
    mirrors: [{ destination: { host: 'second' } }],
    headers: { request: { set: { ':authority': 'h' } }, response: { remove: ['Server'] } },
    corsPolicy: {
      allowOrigins: [{ regex: 'https://.*' }],
      allowOrigin: ['*'],
      allowMethods: ['GET'],
      allowHeaders: ['X-H'],
      exposeHeaders: ['X-E'],
      maxAge: '24h',
      allowCredentials: true,
      unmatchedPreflights: 'IGNORE',
    },
    fault: {
      delay: { percentage: { value: 0.1 }, fixedDelay: '5s' },
      abort: { percent: 10, grpcStatus: 'UNAVAILABLE' },
    },
  })
  assert.deepEqual(action, {
    kind: 'forward',
    destinations: [
      {
        host: 'web.other.svc.cluster.local',
        subset: 'v1',
        weight: 75,
        headers: { request: { set: { 'x-a': '1' }, add: { 'x-b': '2' }, remove: ['x-c'] }, response: noChanges },
      },
      { host: 'web', port: 81, weight: 25, headers: unchanged },
    ],
    rewrite: { uri: '/v1', authority: 'inner' },
    timeoutMs: 1500,
    retries: {
      attempts: 3,
      perTryTimeoutMs: 250,
      conditions: ['5xx', 'connect-failure', 'retriable-status-codes'],
      statuses: [418],
    },
    mirrors: [
      { host: 'shadow', percent: 12.5 },
      { host: 'second', percent: 100 },
    ],
  })
  assert.deepEqual(headers, {
    request: { ...noChanges, set: { host: 'h' } },
    response: { ...noChanges, remove: ['server'] },
  })
  assert.deepEqual(cors, {
    origins: [
      { kind: 'regex', value: 'https://.*' },
      { kind: 'prefix', value: '' },
    ],
    methods: ['GET'],
    headers: ['X-H'],
    exposeHeaders: ['X-E'],
    maxAgeSeconds: 86_400,
    allowCredentials: true,
    unmatchedPreflights: 'ignore',
  })
  assert.deepEqual(fault, {
    delay: { percent: 0.1, delayMs: 5000 },
    abort: { percent: 10, status: 200, grpcStatus: 14 },
  })
})

test('other actions are read', () => {
  assert.deepEqual(
    ruleOf({ redirect: { uri: '/new', authority: 'b', scheme: 'https', port: 8443, redirectCode: 308 } }).action,
    {
      kind: 'redirect',
      status: 308,
      uri: '/new',
      authority: 'b',
      scheme: 'https',
      port: 8443,
    },
  )
  assert.deepEqual(ruleOf({ redirect: { derivePort: 'FROM_REQUEST_PORT' } }).action, {
    kind: 'redirect',
    status: 301,
    derivePort: 'request',
  })
  assert.deepEqual(ruleOf({ directResponse: { status: 503, body: { string: 'later' } } }).action, {
    kind: 'answer',
    status: 503,
    body: 'bGF0ZXI=',
  })
  assert.deepEqual(ruleOf({ directResponse: { status: 200, body: { bytes: 'aGk=' } } }).action, {
    kind: 'answer',
    status: 200,
    body: 'aGk=',
  })
  const { action } = ruleOf({ route, rewrite: { uriRegexRewrite: { match: '^/a/(.*)$', rewrite: '/\\1' } } })
  assert.deepEqual(action, { ...toWeb, rewrite: { uriRegex: { match: '^/a/(.*)$', rewrite: '/\\1' } } })
})

test('zero turns a timeout off, and retries without conditions are the usual ones', () => {
  const { action } = ruleOf({ route, timeout: '0s', retries: { attempts: 2, perTryTimeout: '0s' } })
  assert.deepEqual(action, {
    ...toWeb,
    retries: {
      attempts: 2,
      conditions: ['connect-failure', 'refused-stream', 'unavailable', 'cancelled', 'retriable-status-codes'],
      statuses: [503],
    },
  })
})

test('headers that frame a message are not for rules to write, and it is said', () => {
  const set = { 'Content-Length': '5', 'transfer-encoding': 'chunked', Connection: 'close', 'x-a': '1' }
  const { ignored, problems, rule } = wordsOf({ route, headers: { request: { set }, response: { add: set } } })
  assert.deepEqual([rule?.headers.request.set, rule?.headers.response.add], [{ 'x-a': '1' }, { 'x-a': '1' }])
  assert.match(ignored, /request\.set\.Content-Length: has no effect; it is about one connection/)
  assert.equal(problems.length, 0)
})

test('a fault without a share does nothing, and says so', () => {
  const { ignored, rule } = wordsOf({ route, fault: { delay: { fixedDelay: '1s' } } })
  assert.match(ignored, /fault.delay: has no effect without a percentage/)
  assert.deepEqual(rule?.fault, { delay: { percent: 0, delayMs: 1000 } })
})

test('fields that mean nothing here are named', () => {
  const { ignored } = wordsOf({
    route,
    websocketUpgrade: true,
    match: [{ statPrefix: 'x' }],
    retries: { attempts: 1, retryRemoteLocalities: true, retryOn: 'reset,envoy-ratelimited' },
  })
  for (const words of ['websocketUpgrade', 'statPrefix', 'retryRemoteLocalities', 'envoy-ratelimited']) {
    assert.match(ignored, new RegExp(words))
  }
})

test('tls rules name the hosts that clients ask for', () => {
  const { tls, problems } = serviceOf({
    tls: [
      { match: [{ port: 443, sniHosts: ['A.example.org', '*.b'] }], route },
      { match: [{ sniHosts: [] }, { sniHosts: ['c'], sourceLabels: {} }], route },
      { route },
    ],
  })
  assert.deepEqual(tls, [
    {
      match: [{ sniHosts: ['a.example.org', '*.b'], port: 443, gateways: [] }],
      destinations: [{ host: 'web', port: 80, weight: 1 }],
    },
    { match: [], destinations: [{ host: 'web', port: 80, weight: 1 }] },
  ])
  assert.equal(problems.length, 3)
})

test('tcp rules have weights and may name ports', () => {
  const { tcp, problems } = serviceOf({
    tcp: [
      {
        match: [{ port: 9000 }],
        route: [
          { destination: { host: 'a' }, weight: 90 },
          { destination: { host: 'b' }, weight: 10 },
        ],
      },
      { route },
      { match: [{ sourceSubnet: '10.0.0.0/8' }], route },
      { route: [] },
    ],
  })
  assert.deepEqual(tcp, [
    {
      match: [{ port: 9000, gateways: [] }],
      destinations: [
        { host: 'a', weight: 90 },
        { host: 'b', weight: 10 },
      ],
    },
    { destinations: [{ host: 'web', port: 80, weight: 1 }] },
    { match: [], destinations: [{ host: 'web', port: 80, weight: 1 }] },
  ])
  assert.equal(problems.length, 2)
})

test('durations are those of Go', () => {
  const timeoutOf = (timeout: string) => {
    const { action } = ruleOf({ route, timeout })
    return action.kind === 'forward' ? action.timeoutMs : action.kind
  }
  assert.deepEqual(['2s', '1h30m', '250ms', '0.5s', '1m', '10', '-1s', '1 s', ''].map(timeoutOf), [
    2000,
    5_400_000,
    250,
    500,
    60_000,
    'broken',
    'broken',
    'broken',
    'broken',
  ])
})
