import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { CorsPolicy, RedirectAction, Rewrite } from '../../model/index.ts'
import type { ByteStream } from '../../net/index.ts'
import type { ClientInfo, Exchange } from '../http/exchange.ts'
import type { RequestHead } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import { parseRequestPath } from '../routing/request-path.ts'
import { decideCors } from './cors.ts'
import { balancedClientOf } from './hash-key.ts'
import { changeHeaders, changesHeaders, endToEndFields } from './header-changes.ts'
import { answerLocally } from './local-answer.ts'
import { outgoingRequestOf } from './outgoing-request.ts'
import { locationOf } from './redirect.ts'
import { ReplayBuffer } from './replay-buffer.ts'

const client: ClientInfo = { address: '192.0.2.1', port: 5000, localAddress: '10.0.0.1', localPort: 8080, isTls: false }

/** An exchange that notes what it is answered. */
class FakeExchange implements Exchange {
  readonly request: RequestHead
  readonly client = client
  readonly hasBody = false
  answer: { status: number; headers: HeaderFields; body: string } | undefined

  constructor(fields: Readonly<Record<string, string>> = {}, request: Partial<RequestHead> = {}) {
    this.request = {
      version: '1.1',
      method: 'GET',
      scheme: 'http',
      authority: 'shop.test:8080',
      target: '/a?b=c',
      headers: HeaderFields.of(fields),
      body: { kind: 'none' },
      isUpgrade: false,
      closes: false,
      ...request,
    }
  }

  respond(status: number, _reason: string, headers: HeaderFields): void {
    this.answer = { status, headers, body: '' }
  }

  write(chunk: Buffer): boolean {
    if (this.answer !== undefined) this.answer.body += chunk.toString()
    return true
  }

  listen(): void {}
  pause(): void {}
  resume(): void {}
  discardBody(): void {}
  informational(): void {}
  end(): void {}
  abort(): void {}
  upgrade(): ByteStream {
    throw new Error('not asked for')
  }
}

function outgoing(
  fields: Readonly<Record<string, string>>,
  plan: { path?: string; prefix?: string; rewrite?: Rewrite } = {},
  habits = {},
) {
  const target = parseRequestPath(plan.path ?? '/a?b=c')
  assert.ok(target)
  return outgoingRequestOf(new FakeExchange(fields), {
    target,
    matchedPrefix: plan.prefix,
    rewrite: plan.rewrite,
    changes: [],
    habits: { trustForwardedHeaders: false, forwardedHeader: false, ...habits },
  })
}

suite('a request goes on', () => {
  test('without what is about one connection', () => {
    const { headers } = outgoing({
      Connection: 'close, X-Hop, Host',
      'Keep-Alive': '1',
      'X-Hop': '1',
      TE: 'trailers, deflate',
      Upgrade: 'h2c',
      'Content-Length': '3',
      'X-Kept': '1',
    })
    const names = headers.lowerNames.filter((name) => !name.startsWith('x-forwarded'))
    assert.deepEqual(names, ['x-kept', 'te'])
    assert.equal(headers.get('te'), 'trailers')
  })

  test('with who asked, and without what clients claim about that', () => {
    const claimed = {
      'X-Forwarded-For': '1.1.1.1',
      'X-Forwarded-Proto': 'https',
      Forwarded: 'for=1.1.1.1',
      'X-Real-IP': '1',
    }
    const untrusted = outgoing(claimed).headers
    assert.equal(untrusted.get('x-forwarded-for'), '192.0.2.1')
    assert.equal(untrusted.get('x-forwarded-proto'), 'http')
    assert.equal(untrusted.get('x-forwarded-host'), 'shop.test:8080')
    assert.equal(untrusted.get('x-forwarded-port'), '8080')
    assert.equal(untrusted.has('forwarded') || untrusted.has('x-real-ip'), false)
    const trusted = outgoing(claimed, {}, { trustForwardedHeaders: true, forwardedHeader: true }).headers
    assert.equal(trusted.get('x-forwarded-for'), '1.1.1.1, 192.0.2.1')
    assert.equal(trusted.get('x-forwarded-proto'), 'https')
    assert.equal(trusted.joined('forwarded'), 'for=1.1.1.1, for=192.0.2.1;host="shop.test:8080";proto=http')
  })

  const rewrites: readonly (readonly [string, string | undefined, Rewrite, string])[] = [
    ['/api/x?q', '/api', { uri: '/v1' }, '/v1/x?q'],
    ['/api/x', '/api/', { uri: '/' }, '/x'],
    ['/api/x', '/api', { uri: '/' }, '/x'],
    ['/api', '/api', { uri: '/' }, '/'],
    ['/x', '/', { uri: '/base/' }, '/base/x'],
    ['/whole?q', undefined, { uri: '/other' }, '/other?q'],
    ['/whole', undefined, { uri: '' }, '/'],
    ['/a/b', '/a', { uri: 'c' }, '/c/b'],
    ['/u/7/x?q', undefined, { uriRegex: { match: '^/u/([0-9]+)/(.*)$', rewrite: '/\\2/$\\1' } }, '/x/$7?q'],
    ['/u', undefined, { uriRegex: { match: '^/', rewrite: 'no path ' } }, '/u'],
    ['/a/a', undefined, { uriRegex: { match: 'a', rewrite: 'b' } }, '/b/b'],
    ['/x', undefined, { uriRegex: { match: '^/none', rewrite: '/y' } }, '/x'],
    ['/api/v1/x', '/api/v1', { uri: '/' }, '/x'],
    ['/api//x', '/api', { uri: '/' }, '//x'],
    ['/Api/x', '/aPI', { uri: '/v1' }, '/v1/x'],
    ['/apix', '/api', { uri: '/v1' }, '/v1x'],
  ]
  for (const [path, prefix, rewrite, expected] of rewrites) {
    test(`to ${expected} from ${path} with ${JSON.stringify(rewrite)}`, () => {
      assert.equal(outgoing({}, { path, rewrite, ...(prefix !== undefined && { prefix }) }).target, expected)
    })
  }

  test('to another host when the rule says so', () => {
    assert.equal(outgoing({}).authority, 'shop.test:8080')
    assert.equal(outgoing({}, { rewrite: { authority: 'inner' } }).authority, 'inner')
  })
})

test('headers are set, then added, then removed', () => {
  const headers = HeaderFields.of({ A: '1', B: '2', C: '3' })
  changeHeaders(headers, { set: { a: 'x', b: 'y' }, add: { c: '4' }, remove: ['b'] })
  assert.deepEqual([headers.joined('a'), headers.has('b'), headers.joined('c')], ['x', false, '3, 4'])
})

test('headers of several lines are replaced by one, and those that are not there are no trouble', () => {
  const headers = new HeaderFields()
  for (const value of ['1', '2']) headers.add('X-Many', 'x-many', value)
  changeHeaders(headers, { set: { 'x-many': '3' }, add: { 'x-new': '4' }, remove: ['x-absent'] })
  assert.equal(headers.render(), 'x-many: 3\r\nx-new: 4\r\n')
  changeHeaders(headers, { set: {}, add: { 'x-many': '5' }, remove: [] })
  assert.equal(headers.joined('x-many'), '3, 5')
  changeHeaders(headers, { set: { 'x-gone': '1' }, add: {}, remove: ['x-gone', 'x-many'] })
  assert.equal(headers.render(), 'x-new: 4\r\n')
})

test('only what changes something counts as a change', () => {
  const none = { set: {}, add: {}, remove: [] }
  assert.equal(changesHeaders(none), false)
  for (const change of [{ set: { a: '' } }, { add: { a: '' } }, { remove: ['a'] }]) {
    assert.equal(changesHeaders({ ...none, ...change }), true)
  }
})

test('what Connection names goes, unless a message needs it', () => {
  const kept = (connection: string, ...names: readonly string[]) => {
    const fields = Object.fromEntries(names.map((name) => [name, '1']))
    return endToEndFields(HeaderFields.of({ Connection: connection, ...fields }), () => false).lowerNames
  }
  assert.deepEqual(kept('keep-alive', 'X-A'), ['x-a'])
  assert.deepEqual(kept('close, x-a ,X-B', 'X-A', 'X-B', 'X-C'), ['x-c'])
  assert.deepEqual(kept('authorization, cookie, host', 'Authorization', 'Cookie'), ['authorization', 'cookie'])
  assert.deepEqual(kept('content-length', 'Content-Length', 'X-A'), ['x-a'])
})

test('an answer loses what is about one connection', () => {
  const headers = HeaderFields.of({ Connection: 'X-Hop', 'X-Hop': '1', 'Transfer-Encoding': 'chunked', Server: 's' })
  assert.equal(endToEndFields(headers, () => false).render(), 'Server: s\r\n')
})

suite('a redirect leads', () => {
  const base = { kind: 'redirect', status: 301 } as const
  const cases: readonly (readonly [Partial<RedirectAction>, string])[] = [
    [{}, 'http://shop.test:8080/a?b=c'],
    [{ uri: '/x' }, 'http://shop.test:8080/x?b=c'],
    [{ uri: '/x?y' }, 'http://shop.test:8080/x?y'],
    [{ authority: 'other' }, 'http://other/a?b=c'],
    [{ authority: 'other:81' }, 'http://other:81/a?b=c'],
    [{ scheme: 'https' }, 'https://shop.test/a?b=c'],
    [{ scheme: 'https', port: 8443 }, 'https://shop.test:8443/a?b=c'],
    [{ scheme: 'https', port: 443 }, 'https://shop.test/a?b=c'],
    [{ derivePort: 'request' }, 'http://shop.test:8080/a?b=c'],
    [{ derivePort: 'protocol' }, 'http://shop.test/a?b=c'],
    [{ authority: 'other', derivePort: 'request' }, 'http://other:8080/a?b=c'],
    [{ authority: 'other:81', port: 82 }, 'http://other:82/a?b=c'],
    [{ authority: '[::1]:81' }, 'http://[::1]:81/a?b=c'],
    [{ authority: '[::1]' }, 'http://[::1]/a?b=c'],
    [{ scheme: 'https', authority: 'other', uri: '/' }, 'https://other/?b=c'],
    [{ port: 80 }, 'http://shop.test/a?b=c'],
    [{ uri: '%PREFIX()%/new' }, 'http://shop.test:8080/newa?b=c'],
  ]
  for (const [action, location] of cases) {
    test(`to ${location} with ${JSON.stringify(action)}`, () => {
      const target = { path: '/a', query: '?b=c' }
      assert.equal(locationOf({ ...base, ...action }, new FakeExchange(), target, '/'), location)
    })
  }
})

test('a redirect may keep what follows the matched prefix', () => {
  const action = { kind: 'redirect', status: 302, uri: '%PREFIX()%/new' } as const
  const at = (path: string, prefix: string | undefined) => {
    return locationOf(action, new FakeExchange(), { path, query: '' }, prefix).replace('http://shop.test:8080', '')
  }
  assert.equal(at('/old/x', '/old'), '/new/x')
  assert.equal(at('/old', '/old'), '/new')
  assert.equal(at('/old', undefined), '/new/old')
})

test('a redirect of a request for the usual port names no port', () => {
  const at = (authority: string, scheme: 'http' | 'https') => {
    const exchange = new FakeExchange({}, { authority, scheme })
    return locationOf({ kind: 'redirect', status: 301 }, exchange, { path: '/', query: '' }, '/')
  }
  assert.equal(at('a.test:80', 'http'), 'http://a.test/')
  assert.equal(at('a.test:443', 'https'), 'https://a.test/')
  assert.equal(at('a.test:443', 'http'), 'http://a.test:443/')
})

suite('pages of other origins', () => {
  const policy: CorsPolicy = {
    origins: [{ kind: 'exact', value: 'https://a' }],
    methods: ['GET', 'PUT'],
    headers: ['x-h'],
    exposeHeaders: ['x-e'],
    maxAgeSeconds: 60,
    allowCredentials: true,
    unmatchedPreflights: 'forward',
  }
  const decide = (fields: Readonly<Record<string, string>>, method = 'GET', changes: Partial<CorsPolicy> = {}) => {
    return decideCors({ ...policy, ...changes }, new FakeExchange(fields, { method }).request)
  }
  const preflight = { Origin: 'https://a', 'Access-Control-Request-Method': 'PUT' }

  test('are allowed or not', () => {
    const allowed = decide({ Origin: 'https://a' })
    assert.ok(allowed.kind === 'allow')
    assert.equal(allowed.headers.get('access-control-allow-origin'), 'https://a')
    assert.equal(allowed.headers.get('access-control-expose-headers'), 'x-e')
    assert.equal(allowed.headers.get('vary'), 'origin')
    assert.equal(decide({ Origin: 'https://b' }).kind, 'none')
    assert.equal(decide({}).kind, 'none')
    assert.equal(decideCors(undefined, new FakeExchange({ Origin: 'https://a' }).request).kind, 'none')
  })

  test('that ask first are answered without a backend', () => {
    const decision = decide(preflight, 'OPTIONS')
    assert.ok(decision.kind === 'preflight')
    assert.equal(decision.headers.get('access-control-allow-methods'), 'GET,PUT')
    assert.equal(decision.headers.get('access-control-max-age'), '60')
    assert.equal(decide({ Origin: 'https://a' }, 'OPTIONS').kind, 'allow')
  })

  const origins: readonly (readonly [CorsPolicy['origins'][number], string, boolean])[] = [
    [{ kind: 'prefix', value: '' }, 'https://anybody', true],
    [{ kind: 'prefix', value: 'https://a' }, 'https://a.test', true],
    [{ kind: 'prefix', value: 'https://a' }, 'http://a.test', false],
    [{ kind: 'regex', value: 'https://[a-z]+\\.test' }, 'https://b.test', true],
    [{ kind: 'regex', value: 'https://[a-z]+\\.test' }, 'https://b.test.evil', false],
    [{ kind: 'exact', value: 'https://a' }, 'https://A', false],
    [{ kind: 'exact', value: 'null' }, 'null', true],
  ]
  for (const [match, origin, isAllowed] of origins) {
    test(`from ${origin} are ${isAllowed ? '' : 'not '}allowed by ${JSON.stringify(match)}`, () => {
      const decision = decide({ Origin: origin }, 'GET', { origins: [match] })
      assert.equal(decision.kind, isAllowed ? 'allow' : 'none')
      if (decision.kind === 'allow') assert.equal(decision.headers.get('access-control-allow-origin'), origin)
    })
  }

  test('are told only what the policy has', () => {
    const bare = { methods: [], headers: [], exposeHeaders: [], allowCredentials: false }
    const { maxAgeSeconds: _none, ...rest } = { ...policy, ...bare }
    const decision = decideCors(rest, new FakeExchange(preflight, { method: 'OPTIONS' }).request)
    assert.ok(decision.kind === 'preflight')
    assert.deepEqual(decision.headers.lowerNames, ['access-control-allow-origin', 'vary'])
  })

  test('that are not allowed are passed on or answered without permission', () => {
    const stranger = { ...preflight, Origin: 'https://b' }
    assert.equal(decide(stranger, 'OPTIONS').kind, 'none')
    const ignored = decide(stranger, 'OPTIONS', { unmatchedPreflights: 'ignore' })
    assert.ok(ignored.kind === 'preflight' && ignored.headers.size === 0)
  })
})

suite('a body that may be sent again', () => {
  test('is kept as long as it is short', () => {
    const buffer = new ReplayBuffer()
    buffer.hold(Buffer.alloc(60_000))
    assert.deepEqual([buffer.isWhole, buffer.isFull], [true, false])
    buffer.keep(Buffer.alloc(10_000))
    assert.deepEqual([buffer.isWhole, buffer.chunks.length], [false, 0])
    buffer.keep(Buffer.alloc(1))
    assert.equal(buffer.chunks.length, 0)
  })

  test('is held however long it is while nobody took it, and cannot be repeated afterwards', () => {
    const buffer = new ReplayBuffer()
    for (let chunks = 0; chunks < 3; chunks++) buffer.hold(Buffer.alloc(40_000))
    assert.deepEqual([buffer.isWhole, buffer.isFull, buffer.chunks.length], [true, true, 3])
    buffer.drop()
    assert.deepEqual([buffer.isWhole, buffer.isFull, buffer.chunks.length], [false, false, 0])
  })

  test('is whole as long as there is none', () => {
    const buffer = new ReplayBuffer()
    buffer.drop()
    assert.equal(buffer.isWhole, true)
    buffer.keep(Buffer.from('a'))
    buffer.keep(Buffer.from('b'))
    assert.equal(Buffer.concat(buffer.chunks).toString(), 'ab')
  })
})

suite('answers of the gateway', () => {
  test('say why, in text', () => {
    const exchange = new FakeExchange()
    answerLocally(exchange, { status: 404, reason: 'no rule' })
    assert.equal(exchange.answer?.body, 'edgemesh gateway: 404 Not Found: no rule\n')
    assert.equal(exchange.answer?.headers.get('content-type'), 'text/plain; charset=utf-8')
  })

  test('are those of the rule where it has some', () => {
    const exchange = new FakeExchange()
    const headers = HeaderFields.of({ 'content-type': 'application/json' })
    answerLocally(exchange, { status: 503, reason: 'direct', headers, body: Buffer.from('{}') })
    assert.deepEqual(
      [exchange.answer?.status, exchange.answer?.body, exchange.answer?.headers.get('content-type')],
      [503, '{}', 'application/json'],
    )
  })

  test('without a body have no type', () => {
    const exchange = new FakeExchange()
    answerLocally(exchange, { status: 301, reason: 'redirect', headers: HeaderFields.of({ location: '/x' }) })
    assert.deepEqual([exchange.answer?.body, exchange.answer?.headers.has('content-type')], ['', false])
    assert.match(exchange.answer?.headers.get('date') ?? '', /GMT$/)
  })

  const grpcStatuses: readonly (readonly [number, string])[] = [
    [400, '13'],
    [401, '16'],
    [403, '7'],
    [404, '12'],
    [421, '2'],
    [429, '14'],
    [502, '14'],
    [503, '14'],
    [504, '4'],
  ]
  for (const [status, grpcStatus] of grpcStatuses) {
    test(`are gRPC's ${grpcStatus} for ${status}`, () => {
      const exchange = new FakeExchange({ 'Content-Type': 'application/grpc' }, { version: '2' })
      answerLocally(exchange, { status, reason: 'x' })
      assert.equal(exchange.answer?.headers.get('grpc-status'), grpcStatus)
    })
  }

  test('are HTTP for gRPC-Web, and for redirects of a call', () => {
    for (const [type, status] of [
      ['application/grpc-web+proto', 503],
      ['application/grpc', 301],
    ] as const) {
      const exchange = new FakeExchange({ 'Content-Type': type }, { version: '2' })
      answerLocally(exchange, { status, reason: 'x' })
      assert.deepEqual([exchange.answer?.status, exchange.answer?.headers.has('grpc-status')], [status, false])
    }
  })

  test('have the words of gRPC for those who speak it', () => {
    const exchange = new FakeExchange({ 'Content-Type': 'application/grpc+proto' }, { version: '2' })
    answerLocally(exchange, { status: 503, reason: 'no backend: 100 %' })
    assert.deepEqual(
      [
        exchange.answer?.status,
        exchange.answer?.headers.get('grpc-status'),
        exchange.answer?.headers.get('grpc-message'),
      ],
      [200, '14', 'no backend%3A 100 %25'],
    )
  })
})

suite('what a policy looks at', () => {
  const keyOf = (key: object, fields: Readonly<Record<string, string>>) => {
    const balancing = { kind: 'consistent-hash', key, ring: { kind: 'ring' } }
    const policy = { balancing, readsRequests: true } as Parameters<typeof balancedClientOf>[1]
    return balancedClientOf(new FakeExchange(fields), policy)
  }

  test('is found in the request', () => {
    assert.deepEqual(keyOf({ kind: 'source-ip' }, {}).client, { address: '192.0.2.1' })
    assert.equal(keyOf({ kind: 'http-header', name: 'X-User' }, { 'x-user': 'u' }).client.key, 'u')
    assert.equal(keyOf({ kind: 'query-parameter', name: 'b' }, {}).client.key, 'c')
    assert.equal(keyOf({ kind: 'http-cookie', name: 's' }, { Cookie: 'a=1; s=2' }).client.key, '2')
    assert.equal(keyOf({ kind: 'http-cookie', name: 's' }, {}).client.key, undefined)
  })

  test('is one text where a request says it several times', () => {
    const exchange = new FakeExchange()
    for (const value of ['a', 'b']) exchange.request.headers.add('X-User', 'x-user', value)
    const balancing = { kind: 'consistent-hash', key: { kind: 'http-header', name: 'x-user' }, ring: { kind: 'ring' } }
    const policy = { balancing, readsRequests: true } as Parameters<typeof balancedClientOf>[1]
    assert.equal(balancedClientOf(exchange, policy).client.key, 'a, b')
  })

  test('is not there where a request does not say it', () => {
    for (const key of [
      { kind: 'http-header', name: 'X-User' },
      { kind: 'query-parameter', name: 'none' },
      { kind: 'http-cookie', name: 's' },
    ]) {
      assert.deepEqual(keyOf(key, { Cookie: 'xs=1; t=2; s' }).client, { address: '192.0.2.1', key: undefined })
    }
  })

  test('is nothing for policies that look at no request', () => {
    const policy = { balancing: { kind: 'round-robin' }, readsRequests: false } as const
    assert.deepEqual(balancedClientOf(new FakeExchange(), policy), { client: { address: '192.0.2.1' } })
  })

  test('is found in a cookie with an equals sign, and in quotes of others', () => {
    const cookies = 'a="s=1"; s=x=y ; b=2'
    assert.equal(keyOf({ kind: 'http-cookie', name: 's' }, { Cookie: cookies }).client.key, 'x=y')
  })

  test('is made for the session where the policy gives a cookie no time', () => {
    const { setCookie } = keyOf({ kind: 'http-cookie', name: 's', ttlMs: 0 }, {})
    assert.match(setCookie ?? '', /^s=[\w-]{16}; HttpOnly$/)
  })

  test('is made when the policy lets a cookie be set', () => {
    const { client: made, setCookie } = keyOf({ kind: 'http-cookie', name: 's', path: '/x', ttlMs: 1500 }, {})
    assert.match(setCookie ?? '', new RegExp(`^s=${made.key}; Path=/x; Max-Age=2; HttpOnly$`))
    assert.equal(keyOf({ kind: 'http-cookie', name: 's', ttlMs: 1 }, { Cookie: 's=known' }).setCookie, undefined)
  })
})
