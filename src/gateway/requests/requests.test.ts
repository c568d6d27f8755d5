import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { CorsPolicy, RedirectAction, RetryPolicy, Rewrite } from '../../model/index.ts'
import type { ByteStream } from '../../net/index.ts'
import type { ClientInfo, Exchange } from '../http/exchange.ts'
import type { RequestHead, ResponseHead } from '../http/head.ts'
import { HeaderFields } from '../http/header-fields.ts'
import { UpstreamError, type UpstreamFailure } from '../http/upstream.ts'
import { parseRequestPath } from '../routing/request-path.ts'
import { decideCors } from './cors.ts'
import { balancedClientOf } from './hash-key.ts'
import { changeHeaders, endToEndFields } from './header-changes.ts'
import { answerLocally } from './local-answer.ts'
import { outgoingRequestOf } from './outgoing-request.ts'
import { locationOf } from './redirect.ts'
import { ReplayBuffer } from './replay-buffer.ts'
import { isIdempotent, retryPauseMs, wantsRetry } from './retry.ts'

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
  ]
  for (const [action, location] of cases) {
    test(`to ${location} with ${JSON.stringify(action)}`, () => {
      const target = { path: '/a', query: '?b=c' }
      assert.equal(locationOf({ ...base, ...action }, new FakeExchange(), target, '/'), location)
    })
  }
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

  test('that are not allowed are passed on or answered without permission', () => {
    const stranger = { ...preflight, Origin: 'https://b' }
    assert.equal(decide(stranger, 'OPTIONS').kind, 'none')
    const ignored = decide(stranger, 'OPTIONS', { unmatchedPreflights: 'ignore' })
    assert.ok(ignored.kind === 'preflight' && ignored.headers.size === 0)
  })
})

suite('another attempt', () => {
  const policy = (...conditions: RetryPolicy['conditions']): RetryPolicy => ({
    attempts: 1,
    conditions,
    statuses: [418],
  })
  const failed = (failure: UpstreamFailure) => ({ kind: 'error', error: new UpstreamError(failure, '') }) as const
  const answered = (status: number, fields: Readonly<Record<string, string>> = {}) => {
    const head: ResponseHead = {
      status,
      reason: '',
      headers: HeaderFields.of(fields),
      body: { kind: 'none' },
      closes: false,
    }
    return { kind: 'head', head } as const
  }
  const cases: readonly (readonly [string, RetryPolicy | undefined, Parameters<typeof wantsRetry>[1], boolean])[] = [
    ['without a policy', undefined, { kind: 'unreachable' }, false],
    ['after a failed connection', policy('connect-failure'), { kind: 'unreachable' }, true],
    ['not after a reset when only connections count', policy('connect-failure'), failed('reset-before-answer'), false],
    ['after a reset', policy('reset'), failed('reset-before-answer'), true],
    ['after a refused stream', policy('refused-stream'), failed('refused'), true],
    ['after any failure with 5xx', policy('5xx'), failed('bad-answer'), true],
    ['after a timeout', policy('gateway-error'), { kind: 'timeout' }, true],
    ['not after a timeout when only 409 counts', policy('retriable-4xx'), { kind: 'timeout' }, false],
    ['after 500', policy('5xx'), answered(500), true],
    ['not after 500 when only gateways count', policy('gateway-error'), answered(500), false],
    ['after 503', policy('gateway-error'), answered(503), true],
    ['after 409', policy('retriable-4xx'), answered(409), true],
    ['after a listed status', policy('retriable-status-codes'), answered(418), true],
    ['not after one that is not listed', policy('retriable-status-codes'), answered(404), false],
    ['after a gRPC status', policy('unavailable'), answered(200, { 'grpc-status': '14' }), true],
    ['not after another gRPC status', policy('unavailable'), answered(200, { 'grpc-status': '13' }), false],
    ['not after success', policy('5xx', 'reset'), answered(200), false],
  ]
  for (const [name, retries, outcome, expected] of cases) {
    test(name, () => assert.equal(wantsRetry(retries, outcome), expected))
  }

  test('waits longer each time, up to a limit', () => {
    assert.deepEqual(
      [1, 2, 3, 4, 5].map((attempt) => retryPauseMs(attempt, () => 1)),
      [25, 50, 100, 200, 250],
    )
    assert.equal(
      retryPauseMs(1, () => 0),
      12.5,
    )
  })

  test('is safe for some methods without being asked for', () => {
    assert.deepEqual(['GET', 'HEAD', 'PUT', 'DELETE', 'POST', 'PATCH'].map(isIdempotent), [
      true,
      true,
      true,
      true,
      false,
      false,
    ])
  })

  test('repeats a body as long as it is short', () => {
    const buffer = new ReplayBuffer()
    buffer.hold(Buffer.alloc(60_000))
    assert.deepEqual([buffer.isWhole, buffer.isFull], [true, false])
    buffer.keep(Buffer.alloc(10_000))
    assert.deepEqual([buffer.isWhole, buffer.chunks.length], [false, 0])
    buffer.keep(Buffer.alloc(1))
    assert.equal(buffer.chunks.length, 0)
  })
})

suite('answers of the gateway', () => {
  test('say why, in text', () => {
    const exchange = new FakeExchange()
    answerLocally(exchange, { status: 404, reason: 'no rule' })
    assert.equal(exchange.answer?.body, 'edgemesh gateway: 404 Not Found: no rule\n')
    assert.equal(exchange.answer?.headers.get('content-type'), 'text/plain; charset=utf-8')
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

  test('is made when the policy lets a cookie be set', () => {
    const { client: made, setCookie } = keyOf({ kind: 'http-cookie', name: 's', path: '/x', ttlMs: 1500 }, {})
    assert.match(setCookie ?? '', new RegExp(`^s=${made.key}; Path=/x; Max-Age=2; HttpOnly$`))
    assert.equal(keyOf({ kind: 'http-cookie', name: 's', ttlMs: 1 }, { Cookie: 's=known' }).setCookie, undefined)
  })
})
