import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { Gateway, HttpMatch, VirtualService } from '../../model/index.ts'
import {
  sampleGateway,
  sampleMatch,
  sampleRule,
  sampleServer,
  sampleTls,
  sampleVirtualService,
  serverFor,
} from '../samples.ts'
import { buildRouteTable } from './build-route-table.ts'
import { chooseByWeight, chooseRoute, chooseSniRule } from './choose-route.ts'
import { serviceKeyOf } from './destination.ts'
import { covers, HostMap, hostOf, intersectHosts } from './host-pattern.ts'
import { compileHttpMatch, type RoutableRequest } from './http-matcher.ts'
import { parseQuery, parseRequestPath } from './request-path.ts'
import type { HttpHosts, ListenerPlan, RouteTable } from './route-table.ts'
import { compilePattern, compileStringMatch, PatternError } from './string-matcher.ts'

const labels = { kubeedge: 'edgemesh-gateway' }

function build(gateways: readonly Gateway[], virtualServices: readonly VirtualService[]): RouteTable {
  return buildRouteTable({ gateways, virtualServices, labels })
}

interface Asked {
  readonly method?: string
  readonly scheme?: 'http' | 'https'
  readonly headers?: Readonly<Record<string, string>>
}

/** `host/path?query` as a request. */
function requestOf(address: string, { method = 'GET', scheme = 'http', headers = {} }: Asked = {}): RoutableRequest {
  const slash = address.indexOf('/')
  const target = parseRequestPath(address.slice(slash))
  assert.ok(target)
  return { method, scheme, authority: address.slice(0, slash), target, header: (name) => headers[name] }
}

function hostsOf(plan: ListenerPlan | undefined): HttpHosts {
  assert.equal(plan?.kind, 'http')
  return plan.hosts
}

/** The name of the rule that takes a request on the first port, or why none does. */
function routed(table: RouteTable, address: string, asked?: Asked): string {
  const choice = chooseRoute(hostsOf(table.listeners[0]), requestOf(address, asked))
  return choice.kind === 'route' ? choice.route.id : choice.kind
}

suite('host patterns', () => {
  test('allow what lies below them', () => {
    const cases: readonly (readonly [string, string, boolean])[] = [
      ['*', 'a', true],
      ['*', '*.a', true],
      ['a.org', 'a.org', true],
      ['a.org', 'b.org', false],
      ['*.org', 'a.org', true],
      ['*.org', 'b.a.org', true],
      ['*.org', '*.a.org', true],
      ['*.org', 'org', false],
      ['*.a.org', '*.org', false],
      ['*.a.org', 'ba.org', false],
    ]
    for (const [wide, narrow, expected] of cases) assert.equal(covers(wide, narrow), expected, `${wide} ${narrow}`)
  })

  test('have a common part or none', () => {
    assert.equal(intersectHosts('*', '*.a'), '*.a')
    assert.equal(intersectHosts('x.a', '*.a'), 'x.a')
    assert.equal(intersectHosts('*.b', '*.a'), undefined)
  })

  test('the longest one wins in a map', () => {
    const map = new HostMap<string>()
    for (const pattern of ['*', '*.org', '*.a.org', 'x.a.org']) map.set(pattern, pattern)
    const found = ['x.a.org', 'y.a.org', 'z.y.a.org', 'a.org', 'com', ''].map((name) => map.find(name))
    assert.deepEqual(found, ['x.a.org', '*.a.org', '*.a.org', '*.org', '*', '*'])
    assert.deepEqual([map.size, map.at('*.org'), map.at('com')], [4, '*.org', undefined])
    assert.deepEqual(
      new Set([...map.entries()].map(([pattern]) => pattern)),
      new Set(['*', '*.org', '*.a.org', 'x.a.org']),
    )
    assert.equal(new HostMap<string>().find('a'), undefined)
  })

  test('are asked by the host of an authority', () => {
    const cases = {
      'A.org': 'a.org',
      'a.org:80': 'a.org',
      'a.org.': 'a.org',
      '[::1]:80': '::1',
      '10.0.0.1:8': '10.0.0.1',
    }
    for (const [authority, host] of Object.entries(cases)) assert.equal(hostOf(authority), host)
  })
})

suite('request paths', () => {
  test('lose their dot segments, however they are written', () => {
    const cases: Readonly<Record<string, string | undefined>> = {
      '/': '/',
      '/a/b?c=/../d': '/a/b?c=/../d',
      '/a/../b': '/b',
      '/a/./b': '/a/b',
      '/a/..': '/',
      '/a/b/..': '/a/',
      '/a/.': '/a/',
      '/a/%2e%2E/b': '/b',
      '/a\\..\\b': '/b',
      '/.hidden': '/.hidden',
      '/a/...': '/a/...',
      '/a//b': '/a//b',
      '/..': undefined,
      '/a/../../b': undefined,
    }
    for (const [target, expected] of Object.entries(cases)) {
      const parsed = parseRequestPath(target)
      assert.equal(parsed && parsed.path + parsed.query, expected, target)
    }
  })

  test('have parameters, of which the first counts', () => {
    assert.deepEqual(
      [...parseQuery('?a=1&a=2&b=x%20y&c')],
      [
        ['a', '1'],
        ['b', 'x y'],
        ['c', ''],
      ],
    )
  })
})

suite('comparisons', () => {
  test('are exact, by prefix or by a regex of the whole text', () => {
    const exact = compileStringMatch({ kind: 'exact', value: 'Ab' })
    const prefix = compileStringMatch({ kind: 'prefix', value: 'Ab' }, { ignoreCase: true })
    const regex = compileStringMatch({ kind: 'regex', value: 'a+|b' })
    assert.deepEqual([exact('Ab'), exact('ab')], [true, false])
    assert.deepEqual([prefix('aBc'), prefix('a')], [true, false])
    assert.deepEqual([regex('aaa'), regex('b'), regex('ab'), regex('xb')], [true, true, false, false])
  })

  test('cost no more for a regex that stalls others', () => {
    const test = compileStringMatch({ kind: 'regex', value: '(a+)+b' })
    assert.equal(test('a'.repeat(50_000)), false)
  })

  test('say which regex is none', () => {
    assert.throws(
      () => compilePattern('('),
      new PatternError('Cannot use the regex "(": error parsing regexp: missing closing ): `(`'),
    )
    assert.throws(() => compilePattern('a'.repeat(5000)), PatternError)
  })
})

suite('a match holds', () => {
  const exact = (value: string) => ({ kind: 'exact', value }) as const
  const cases: readonly (readonly [string, Partial<HttpMatch>, string, Asked, boolean])[] = [
    ['for its path', { uri: exact('/a') }, 'h/a?x=1', {}, true],
    ['not for a longer path', { uri: exact('/a') }, 'h/ab', {}, false],
    ['for its prefix', { uri: { kind: 'prefix', value: '/a' } }, 'h/ab', {}, true],
    ['for everything with the prefix /', { uri: { kind: 'prefix', value: '/' } }, 'h/anything/at?all', {}, true],
    ['in any case when told', { uri: exact('/A'), ignoreUriCase: true }, 'h/a', {}, true],
    ['in one case otherwise', { uri: exact('/A') }, 'h/a', {}, false],
    [
      'not for a path written in another way',
      { uri: { kind: 'prefix', value: '/public' } },
      'h/public/../admin',
      {},
      false,
    ],
    ['for its method', { method: exact('POST') }, 'h/', { method: 'POST' }, true],
    ['not for another method', { method: exact('POST') }, 'h/', {}, false],
    ['for its scheme', { scheme: exact('https') }, 'h/', { scheme: 'https' }, true],
    ['not for another scheme', { scheme: exact('https') }, 'h/', {}, false],
    ['for its authority', { authority: exact('A.org') }, 'a.org/', {}, true],
    ['for its authority at another port', { authority: exact('a.org') }, 'a.org:8080/', {}, true],
    ['not for another authority', { authority: exact('a.org') }, 'b.org/', {}, false],
    ['for its header', { headers: [{ name: 'x', match: exact('1') }] }, 'h/', { headers: { x: '1' } }, true],
    ['not without its header', { headers: [{ name: 'x', match: exact('1') }] }, 'h/', {}, false],
    [
      'when a header is there',
      { headers: [{ name: 'x', match: { kind: 'present' } }] },
      'h/',
      { headers: { x: '' } },
      true,
    ],
    ['when a header is not there', { withoutHeaders: [{ name: 'x', match: { kind: 'present' } }] }, 'h/', {}, true],
    ['not when it is', { withoutHeaders: [{ name: 'x', match: exact('1') }] }, 'h/', { headers: { x: '1' } }, false],
    [
      'when it is another one',
      { withoutHeaders: [{ name: 'x', match: exact('1') }] },
      'h/',
      { headers: { x: '2' } },
      true,
    ],
    ['for its prefix in any case', { uri: { kind: 'prefix', value: '/A' }, ignoreUriCase: true }, 'h/ab', {}, true],
    ['for a regex of its path, without the query', { uri: { kind: 'regex', value: '/a.' } }, 'h/ab?x', {}, true],
    ['not for a part of its path', { uri: { kind: 'regex', value: '/a' } }, 'h/ab', {}, false],
    ['for a prefix of its authority', { authority: { kind: 'prefix', value: 'A.' } }, 'a.org/', {}, true],
    ['for a regex of its authority', { authority: { kind: 'regex', value: 'a.org:80.*' } }, 'a.org:8080/', {}, true],
    ['for a method in its own case only', { method: exact('get') }, 'h/', {}, false],
    [
      'for a header that begins so',
      { headers: [{ name: 'x', match: { kind: 'prefix', value: 'a' } }] },
      'h/',
      { headers: { x: 'ab' } },
      true,
    ],
    [
      'for a header by regex, as a whole',
      { headers: [{ name: 'x', match: { kind: 'regex', value: 'a|b' } }] },
      'h/',
      { headers: { x: 'ab' } },
      false,
    ],
    [
      'not when a header is missing that must be there',
      { headers: [{ name: 'x', match: { kind: 'present' } }] },
      'h/',
      {},
      false,
    ],
    [
      'not when a header is there that must not be',
      { withoutHeaders: [{ name: 'x', match: { kind: 'present' } }] },
      'h/',
      { headers: { x: '' } },
      false,
    ],
    [
      'when a header that is not there must not be so',
      { withoutHeaders: [{ name: 'x', match: exact('1') }] },
      'h/',
      {},
      true,
    ],
    [
      'not when a header begins as it must not',
      { withoutHeaders: [{ name: 'x', match: { kind: 'prefix', value: 'a' } }] },
      'h/',
      { headers: { x: 'ab' } },
      false,
    ],
    ['for a parameter that is there', { queryParams: [{ name: 'q', match: { kind: 'present' } }] }, 'h/?q', {}, true],
    [
      'for a parameter that begins so',
      { queryParams: [{ name: 'q', match: { kind: 'prefix', value: 'a' } }] },
      'h/?q=ab',
      {},
      true,
    ],
    [
      'for a parameter in its own case only',
      { queryParams: [{ name: 'Q', match: { kind: 'present' } }] },
      'h/?q',
      {},
      false,
    ],
    ['for the first of several values', { queryParams: [{ name: 'q', match: exact('b') }] }, 'h/?q=a&q=b', {}, false],
    [
      'for all of its parameters',
      {
        queryParams: [
          { name: 'q', match: exact('a') },
          { name: 'r', match: exact('b') },
        ],
      },
      'h/?q=a',
      {},
      false,
    ],
    ['for its parameter', { queryParams: [{ name: 'q', match: exact('a b') }] }, 'h/?q=a%20b', {}, true],
    ['not for another value', { queryParams: [{ name: 'q', match: exact('a') }] }, 'h/?q=b', {}, false],
    ['not without its parameter', { queryParams: [{ name: 'q', match: exact('a') }] }, 'h/', {}, false],
    [
      'when all its parts do',
      { uri: exact('/a'), method: exact('GET'), headers: [{ name: 'x', match: exact('1') }] },
      'h/a',
      { headers: { x: '1' } },
      true,
    ],
    [
      'not when one of them does not',
      { uri: exact('/a'), method: exact('PUT'), headers: [{ name: 'x', match: exact('1') }] },
      'h/a',
      { headers: { x: '1' } },
      false,
    ],
  ]
  for (const [name, match, address, asked, expected] of cases) {
    test(name, () => {
      assert.equal(compileHttpMatch(sampleMatch(match)).holds(requestOf(address, asked)), expected)
    })
  }
})

const sampleCors = {
  methods: [],
  headers: [],
  exposeHeaders: [],
  allowCredentials: false,
  unmatchedPreflights: 'forward',
} as const

suite('a request takes', () => {
  const prefix = (value: string) => ({ uri: { kind: 'prefix', value } }) as const

  test('the first rule that holds', () => {
    const http = [sampleRule('a', prefix('/a')), sampleRule('ab', prefix('/ab')), sampleRule('rest')]
    const table = build([sampleGateway()], [sampleVirtualService({ http })])
    assert.equal(routed(table, 'h/abc'), 'shop/web/a')
    assert.equal(routed(table, 'h/x'), 'shop/web/rest')
  })

  test('the longest host, and no rule of a shorter one instead', () => {
    const virtualServices = [
      sampleVirtualService({ name: 'any', hosts: ['*'], http: [sampleRule('r')] }),
      sampleVirtualService({ name: 'wild', hosts: ['*.org'], http: [sampleRule('r')] }),
      sampleVirtualService({ name: 'exact', hosts: ['a.org'], http: [sampleRule('r', prefix('/only'))] }),
    ]
    const table = build([sampleGateway()], virtualServices)
    assert.equal(routed(table, 'a.org/only'), 'shop/exact/r')
    assert.equal(routed(table, 'a.org/'), 'no-rule')
    assert.equal(routed(table, 'b.org:8080/'), 'shop/wild/r')
    assert.equal(routed(table, '192.0.2.1/'), 'shop/any/r')
  })

  test('rules of objects for one host by age, those for everything last', () => {
    const one = (name: string, createdAt: string, ...http: VirtualService['http']) => {
      return sampleVirtualService({ name, createdAt, hosts: ['a.org'], http })
    }
    const objects = [
      one('young', '2026-02-01', sampleRule('x', prefix('/x'))),
      one('old', '2026-01-01', sampleRule('all', prefix('/')), sampleRule('y', prefix('/x/y'))),
    ]
    for (const order of [objects, objects.toReversed()]) {
      const table = build([sampleGateway()], order)
      assert.equal(routed(table, 'a.org/x'), 'shop/young/x')
      assert.equal(routed(table, 'a.org/x/y'), 'shop/old/y')
      assert.equal(routed(table, 'a.org/'), 'shop/old/all')
    }
  })

  test('only rules for its port and Gateway', () => {
    const http = [
      sampleRule('port', { port: 81 }),
      sampleRule('gateway', { gateways: ['other'] }),
      { ...sampleRule('none'), match: [] },
      sampleRule('here', { port: 80, gateways: ['shop/front'] }),
    ]
    assert.equal(routed(build([sampleGateway()], [sampleVirtualService({ http })]), 'h/'), 'shop/web/here')
  })

  test('a rule whose first match does not hold by another one', () => {
    const match = [prefix('/a'), { method: { kind: 'exact', value: 'PUT' } as const }].map((fields) =>
      sampleMatch(fields),
    )
    const table = build([sampleGateway()], [sampleVirtualService({ http: [{ ...sampleRule('r'), match }] })])
    assert.equal(routed(table, 'h/b'), 'no-rule')
    assert.equal(routed(table, 'h/b', { method: 'PUT' }), 'shop/web/r')
    assert.equal(routed(table, 'h/ab'), 'shop/web/r')
  })

  test('the part of its path that its rule matched', () => {
    const http = [
      sampleRule('prefix', prefix('/api')),
      sampleRule('exact', { uri: { kind: 'exact', value: '/x' } }),
      sampleRule('method', { method: { kind: 'exact', value: 'PUT' } }),
      sampleRule('all'),
    ]
    const hosts = hostsOf(build([sampleGateway()], [sampleVirtualService({ http })]).listeners[0])
    const matched = (address: string, asked?: Asked) => {
      const choice = chooseRoute(hosts, requestOf(address, asked))
      return choice.kind === 'route' ? choice.matchedPrefix : choice.kind
    }
    assert.equal(matched('h/api/x'), '/api')
    assert.equal(matched('h/x'), undefined)
    assert.equal(matched('h/y', { method: 'PUT' }), '/')
    assert.equal(matched('h/y'), '/')
  })

  test('no host of an address that nobody named, and any host where everybody is meant', () => {
    const table = build(
      [sampleGateway({ servers: [serverFor('a.org')] })],
      [sampleVirtualService({ http: [sampleRule('r')] })],
    )
    for (const host of ['a.org', 'A.ORG', 'a.org:80', 'a.org.'])
      assert.equal(routed(table, `${host}/`), 'shop/web/r', host)
    for (const host of ['b.org', 'aa.org', 'x.a.org', 'org', ''])
      assert.equal(routed(table, `${host}/`), 'unknown-host', host)
  })

  test('rules of one object once, also where two of its hosts come to the same', () => {
    const table = build(
      [sampleGateway({ servers: [serverFor('*.org', 'a.org')] })],
      [sampleVirtualService({ hosts: ['a.org', '*'], http: [sampleRule('r')] })],
    )
    const host = hostsOf(table.listeners[0]).find('a.org')
    assert.deepEqual(
      host?.rules.map(({ id }) => id),
      ['shop/web/r'],
    )
  })

  test('an error from a rule whose other patterns are none, instead of ending the gateway', () => {
    const rewritten = (match: string, rewrite: string) => {
      const action = {
        kind: 'forward',
        destinations: [],
        mirrors: [],
        rewrite: { uriRegex: { match, rewrite } },
      } as const
      return sampleRule('bad', prefix('/a'), { action })
    }
    const cors = { ...sampleCors, origins: [{ kind: 'regex', value: '(' }] } as const
    for (const rule of [rewritten('(', '/'), sampleRule('bad', prefix('/a'), { cors })]) {
      const table = build([sampleGateway()], [sampleVirtualService({ http: [rule] })])
      const choice = chooseRoute(hostsOf(table.listeners[0]), requestOf('h/a'))
      const chosen = choice.kind === 'route' ? choice.route.rule : undefined
      assert.deepEqual([chosen?.action.kind, chosen?.cors, chosen?.name], ['broken', undefined, 'bad'])
      assert.match(chosen?.action.kind === 'broken' ? chosen.action.reason : '', /^Cannot use the regex "\("/)
      assert.match(table.problems.map(({ message }) => message).join(), /^rule bad: /)
    }
    const good = build([sampleGateway()], [sampleVirtualService({ http: [rewritten('/(a)', '/\\1')] })])
    assert.equal(good.problems.length, 0)
  })

  test('no rule whose regex is none, while the others go on', () => {
    const http = [sampleRule('bad', { uri: { kind: 'regex', value: '(' } }), sampleRule('good', prefix('/a'))]
    const table = build([sampleGateway()], [sampleVirtualService({ http })])
    assert.equal(routed(table, 'h/a'), 'shop/web/good')
    assert.match(table.problems.map(({ message }) => message).join(), /^rule bad: Cannot use the regex/)
  })
})

suite('a VirtualService is bound', () => {
  const service = (fields: Partial<VirtualService>) => sampleVirtualService({ http: [sampleRule('r')], ...fields })
  const cases: readonly (readonly [string, Gateway, VirtualService, string, string])[] = [
    ['to a Gateway of its namespace', sampleGateway(), service({}), 'h/', 'shop/web/r'],
    ['not by the bare name of one elsewhere', sampleGateway(), service({ namespace: 'evil' }), 'h/', 'no-rule'],
    [
      'to one elsewhere by its full name',
      sampleGateway(),
      service({ namespace: 'b', gateways: ['shop/front'] }),
      'h/',
      'b/web/r',
    ],
    ['not to mesh', sampleGateway(), service({ gateways: ['mesh'] }), 'h/', 'no-rule'],
    [
      'not to a Gateway that is called mesh',
      sampleGateway({ name: 'mesh' }),
      service({ gateways: ['mesh'] }),
      'h/',
      'no-rule',
    ],
    ['to a Gateway beside the mesh', sampleGateway(), service({ gateways: ['mesh', 'front'] }), 'h/', 'shop/web/r'],
    [
      'to a Gateway of its namespace with a dot',
      sampleGateway(),
      service({ gateways: ['./front'] }),
      'h/',
      'shop/web/r',
    ],
    ['not when nobody may see it', sampleGateway(), service({ exportTo: ['~'] }), 'h/', 'no-rule'],
    ['when everybody may see it', sampleGateway(), service({ exportTo: ['x', '*'] }), 'h/', 'shop/web/r'],
    [
      'when it is exported there',
      sampleGateway(),
      service({ namespace: 'b', gateways: ['shop/front'], exportTo: ['shop'] }),
      'h/',
      'b/web/r',
    ],
    [
      'not when it is not',
      sampleGateway(),
      service({ namespace: 'b', gateways: ['shop/front'], exportTo: ['.'] }),
      'h/',
      'no-rule',
    ],
    ['to its own namespace with a dot', sampleGateway(), service({ exportTo: ['.'] }), 'h/', 'shop/web/r'],
    [
      'for the common part of the hosts',
      sampleGateway({ servers: [serverFor('*.org')] }),
      service({ hosts: ['a.org', 'b.com'] }),
      'a.org/',
      'shop/web/r',
    ],
    [
      'for no host outside of them',
      sampleGateway({ servers: [serverFor('*.org')] }),
      service({ hosts: ['a.org', 'b.com'] }),
      'b.com/',
      'unknown-host',
    ],
    [
      'for a narrow server with a wide host',
      sampleGateway({ servers: [serverFor('a.org')] }),
      service({ hosts: ['*.org'] }),
      'a.org/',
      'shop/web/r',
    ],
    [
      'in a namespace that the server names',
      sampleGateway({ servers: [serverFor('shop/*')] }),
      service({}),
      'h/',
      'shop/web/r',
    ],
    [
      'not in another one',
      sampleGateway({ servers: [serverFor('./*')] }),
      service({ namespace: 'b', gateways: ['shop/front'] }),
      'h/',
      'no-rule',
    ],
  ]
  for (const [name, gateway, object, address, expected] of cases) {
    test(name, () => assert.equal(routed(build([gateway], [object]), address), expected))
  }

  test('with a word about what keeps it out', () => {
    const away = service({ namespace: 'b', gateways: ['shop/front'], exportTo: ['.'] })
    const elsewhere = service({ name: 'x', hosts: ['b.com'] })
    const { problems } = build([sampleGateway({ servers: [serverFor('a.org')] })], [away, elsewhere])
    assert.deepEqual(
      problems.map(({ object, message }) => `${object}: ${message}`),
      [
        'b/web: exportTo does not name shop, so Gateway shop/front leaves it out',
        'shop/x: no host is one of Gateway shop/front',
      ],
    )
  })
})

suite('names that TLS clients ask for', () => {
  const tlsTo = (namespace: string, hosts: readonly string[], ...sniHosts: readonly string[]) => {
    const destinations = [{ host: 'web', port: 443, weight: 1 }]
    const tls = [{ match: [{ sniHosts, gateways: [] }], destinations }]
    return sampleVirtualService({ namespace, gateways: ['shop/front'], hosts, tls })
  }
  /** The rule that takes a connection for a name on a port that passes TLS through. */
  const chosen = (allowed: readonly string[], services: readonly VirtualService[], name: string) => {
    const server = { ...serverFor(...allowed), protocol: 'tls', tls: { mode: 'passthrough' } } as const
    const [plan] = build([sampleGateway({ servers: [server] })], services).listeners
    assert.equal(plan?.kind, 'tls')
    const found = plan.servers.find(name)
    return found?.mode === 'passthrough' ? chooseSniRule(found.rules, name)?.id : 'nobody'
  }

  test('are those of the object and of the server', () => {
    const service = tlsTo('shop', ['*.a.test'], 'x.a.test', '*.deep.a.test')
    const names = { 'x.a.test': 'shop/web/tls#0', 'y.deep.a.test': 'shop/web/tls#0', 'y.a.test': undefined }
    for (const [name, rule] of Object.entries(names)) assert.equal(chosen(['*.test'], [service], name), rule, name)
    assert.equal(chosen(['*.b.test'], [service], 'x.a.test'), 'nobody')
  })

  test('are not taken from others by naming them in a match only', () => {
    const mine = tlsTo('shop', ['a.shop.test'], 'a.shop.test')
    const theirs = { ...tlsTo('evil', ['a.evil.test'], '*', 'a.shop.test'), createdAt: '2000-01-01' }
    const allowed = ['evil/*.evil.test', 'shop/*.shop.test']
    assert.equal(chosen(allowed, [mine, theirs], 'a.shop.test'), 'shop/web/tls#0')
    assert.equal(chosen(allowed, [mine, theirs], 'a.evil.test'), 'evil/web/tls#0')
    assert.equal(chosen(allowed, [mine, theirs], 'b.evil.test'), undefined)
  })
})

suite('listeners', () => {
  test('come from the Gateways that select this gateway', () => {
    const gateways = [
      sampleGateway({ name: 'a', selector: {} }),
      sampleGateway({ name: 'b', selector: labels, servers: [sampleServer({ port: 81 })] }),
      sampleGateway({ name: 'c', selector: { ...labels, more: 'x' }, servers: [sampleServer({ port: 82 })] }),
      sampleGateway({ name: 'd', selector: { istio: 'ingressgateway' }, servers: [sampleServer({ port: 83 })] }),
    ]
    assert.deepEqual(
      build(gateways, []).listeners.map(({ port, gateways }) => [port, gateways]),
      [
        [80, ['shop/a']],
        [81, ['shop/b']],
      ],
    )
  })

  test('are shared by Gateways and merged by host', () => {
    const gateways = [
      sampleGateway({ name: 'a', servers: [serverFor('a.org')] }),
      sampleGateway({ name: 'b', servers: [serverFor('b.org')] }),
    ]
    const services = ['a', 'b'].map((name) => {
      return sampleVirtualService({ name, gateways: [name], hosts: ['*'], http: [sampleRule('r')] })
    })
    const table = build(gateways, services)
    assert.deepEqual(
      table.listeners.map(({ gateways }) => gateways),
      [['shop/a', 'shop/b']],
    )
    assert.equal(routed(table, 'a.org/'), 'shop/a/r')
    assert.equal(routed(table, 'b.org/'), 'shop/b/r')
    assert.equal(routed(table, 'c.org/'), 'unknown-host')
  })

  test('stay what the oldest Gateway wants', () => {
    const gateways = [
      sampleGateway({ name: 'a', createdAt: '2026-02-01', servers: [sampleServer({ protocol: 'tcp' })] }),
      sampleGateway({ name: 'b', createdAt: '2026-01-01' }),
    ]
    const { listeners, problems } = build(gateways, [])
    assert.deepEqual(
      listeners.map(({ kind }) => kind),
      ['http'],
    )
    assert.deepEqual(
      problems.map(({ object, message }) => [object, message]),
      [['shop/a', 'port 80 is used for http by Gateway shop/b, which is older']],
    )
  })

  test('may be bound to one address', () => {
    const servers = [sampleServer(), sampleServer({ bind: '192.0.2.7' })]
    const { listeners } = build([sampleGateway({ servers })], [])
    assert.deepEqual(
      listeners.map(({ bind }) => bind),
      [undefined, '192.0.2.7'],
    )
  })

  test('send to https where a server says so, whatever the rules are', () => {
    const servers = [{ ...serverFor('a.org'), tls: { mode: 'redirect' as const } }, serverFor('b.org')]
    const table = build([sampleGateway({ servers })], [sampleVirtualService({ http: [sampleRule('r')] })])
    assert.equal(routed(table, 'a.org/x'), 'redirect-to-https')
    assert.equal(routed(table, 'b.org/x'), 'shop/web/r')
  })

  test('tell what objects say in vain', () => {
    const gateway = sampleGateway({ ignored: ['spec.x: has no effect here'], problems: ['spec.y: is missing'] })
    const service = sampleVirtualService({ ignored: ['spec.z: has no effect here'], problems: ['spec.w: is bad'] })
    assert.deepEqual(
      build([gateway], [service]).problems.map(({ kind, severity, message }) => [kind, severity, message]),
      [
        ['Gateway', 'error', 'spec.y: is missing'],
        ['Gateway', 'notice', 'spec.x: has no effect here'],
        ['VirtualService', 'error', 'spec.w: is bad'],
        ['VirtualService', 'notice', 'spec.z: has no effect here'],
      ],
    )
  })
})

suite('TLS', () => {
  const https = (host: string, credential: string) => ({
    ...serverFor(host),
    port: 443,
    protocol: 'https' as const,
    tls: sampleTls(credential),
  })

  function serversOf(table: RouteTable) {
    const [plan] = table.listeners
    assert.equal(plan?.kind, 'tls')
    return plan.servers
  }

  test('has a certificate and rules for each host', () => {
    const servers = [https('a.org', 'a'), https('*.org', 'wild')]
    const table = build([sampleGateway({ servers })], [sampleVirtualService({ http: [sampleRule('r')] })])
    const secretOf = (name: string) => {
      const found = serversOf(table).find(name)
      return found?.mode === 'terminate' ? found.tls.secret : undefined
    }
    assert.deepEqual(['a.org', 'b.org', 'com'].map(secretOf), ['shop/a', 'shop/wild', undefined])
    const plan = serversOf(table).find('a.org')
    assert.ok(plan?.mode === 'terminate' && plan.inside.kind === 'http')
    assert.equal(chooseRoute(plan.inside.hosts, requestOf('a.org/')).kind, 'route')
    assert.equal(chooseRoute(plan.inside.hosts, requestOf('b.org/')).kind, 'unknown-host')
  })

  test('keeps a host with the oldest Gateway that has it', () => {
    const gateways = [
      sampleGateway({ name: 'a', servers: [https('a.org', 'a')] }),
      sampleGateway({ name: 'b', servers: [https('a.org', 'b'), https('b.org', 'b')] }),
    ]
    const { problems } = build(gateways, [])
    assert.deepEqual(
      problems.map(({ object, message }) => [object, message]),
      [['shop/b', 'host a.org on port 443 is served by Gateway shop/a']],
    )
  })

  test('passes through by name', () => {
    const server = { ...serverFor('*'), port: 443, protocol: 'tls' as const, tls: { mode: 'passthrough' as const } }
    const rule = (...sniHosts: readonly string[]) => ({
      match: [{ sniHosts, gateways: [] }],
      destinations: [{ host: 'web', weight: 1 }],
    })
    const tls = [
      rule('a.org'),
      rule('*.org'),
      { ...rule('b.com'), match: [{ sniHosts: ['b.com'], port: 444, gateways: [] }] },
    ]
    const plan = serversOf(build([sampleGateway({ servers: [server] })], [sampleVirtualService({ tls })])).find('x')
    assert.equal(plan?.mode, 'passthrough')
    const chosen = ['a.org', 'c.org', 'b.com', ''].map((name) => chooseSniRule(plan.rules, name)?.id)
    assert.deepEqual(chosen, ['shop/web/tls#0', 'shop/web/tls#1', undefined, undefined])
  })

  test('may hold bytes that are no HTTP', () => {
    const server = { ...serverFor('*'), port: 443, protocol: 'tls' as const, tls: sampleTls() }
    const tcp = [{ destinations: [{ host: 'web', weight: 1 }] }]
    const plan = serversOf(build([sampleGateway({ servers: [server] })], [sampleVirtualService({ tcp })])).find('x')
    assert.ok(plan?.mode === 'terminate' && plan.inside.kind === 'tcp')
    assert.deepEqual(
      plan.inside.rules.map(({ id }) => id),
      ['shop/web/tcp#0'],
    )
  })
})

test('the same objects in any order make the same table', () => {
  const gateways = ['a', 'b', 'c'].map((name) => sampleGateway({ name, servers: [serverFor(`${name}.org`, '*.net')] }))
  const services = gateways.map(({ name }) => {
    return sampleVirtualService({
      name,
      gateways: ['a', 'b', 'c'],
      hosts: ['*'],
      http: [sampleRule(name, { port: 80 })],
    })
  })
  const textOf = ({ listeners, problems, counts }: RouteTable) => {
    const hosts = [...hostsOf(listeners[0]).entries()].map(([pattern, { rules }]) => [
      pattern,
      rules.map(({ id }) => id),
    ])
    return JSON.stringify([listeners.map(({ port, gateways: names }) => [port, names]), hosts, problems, counts])
  }
  const expected = textOf(build(gateways, services))
  assert.equal(textOf(build(gateways.toReversed(), services.toReversed())), expected)
  assert.equal(textOf(build([...gateways.slice(1), ...gateways.slice(0, 1)], services)), expected)
})

test('an object that is bound twice is counted once, and one that is bound to nobody not at all', () => {
  const services = [
    sampleVirtualService({ gateways: ['front', './front', 'shop/front'], http: [sampleRule('a'), sampleRule('b')] }),
    sampleVirtualService({ name: 'away', gateways: ['elsewhere'], http: [sampleRule('c')] }),
  ]
  const { counts, problems } = build([sampleGateway()], services)
  assert.deepEqual([counts, problems], [{ gateways: 1, virtualServices: 1, rules: 2 }, []])
})

test('tcp rules hold for their port', () => {
  const destinations = [{ host: 'web', weight: 1 }]
  const tcp = [
    { match: [{ port: 1, gateways: [] }], destinations },
    { match: [{ port: 9000, gateways: ['front'] }], destinations },
    { destinations },
  ]
  const servers = [sampleServer({ port: 9000, protocol: 'tcp' })]
  const [plan] = build([sampleGateway({ servers })], [sampleVirtualService({ tcp })]).listeners
  assert.ok(plan?.kind === 'tcp')
  assert.deepEqual(
    plan.rules.map(({ id }) => id),
    ['shop/web/tcp#1', 'shop/web/tcp#2'],
  )
})

test('weights are shares', () => {
  const choices = [
    { name: 'a', weight: 0 },
    { name: 'b', weight: 30 },
    { name: 'c', weight: 70 },
  ]
  const chosen = [0, 0.29, 0.3, 0.99].map((draw) => chooseByWeight(choices, draw)?.name)
  assert.deepEqual(chosen, ['b', 'b', 'c', 'c'])
  assert.equal(chooseByWeight([{ weight: 0 }, { weight: 0 }], 0.5), undefined)
  assert.equal(chooseByWeight([], 0.5), undefined)
})

test('destinations are named as anywhere in a cluster', () => {
  const cases: Readonly<Record<string, string | undefined>> = {
    web: 'shop/web',
    'web.other': 'other/web',
    'web.other.svc': 'other/web',
    'web.other.svc.cluster.local': 'other/web',
    'web.other.svc.example': undefined,
    'www.example.org': undefined,
  }
  for (const [host, key] of Object.entries(cases)) assert.equal(serviceKeyOf(host, 'shop', 'cluster.local'), key, host)
})
