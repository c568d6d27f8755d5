import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { HttpRule } from '../../model/index.ts'
import { sampleRule } from '../samples.ts'
import { answering, named, SampleSite, until } from './sample-site.ts'

const get = (path = '/', ...fields: readonly string[]) =>
  `GET ${path} HTTP/1.1\r\nHost: shop.test\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`
const prefix = (value: string) => ({ uri: { kind: 'prefix', value } as const })

function siteWith(...http: readonly HttpRule[]): SampleSite {
  return new SampleSite({ http, backends: { '10.0.0.1': named('one') } })
}

suite('requests that the gateway answers itself', () => {
  const cases: readonly (readonly [string, HttpRule, string, RegExp])[] = [
    ['no rule matches', sampleRule('a', prefix('/a')), get('/b'), / 404 [\s\S]*matches GET shop\.test\/b/],
    ['the path leaves the root', sampleRule('a'), get('/a/../../b'), / 400 [\s\S]*the path leaves the root/],
    [
      'gRPC comes over HTTP/1.1',
      sampleRule('a'),
      get('/', 'Content-Type: application/grpc+proto'),
      / 426 [\s\S]*upgrade: h2c[\s\S]*gRPC needs HTTP\/2/,
    ],
    [
      'the rule redirects',
      sampleRule('a', undefined, { action: { kind: 'redirect', status: 308, uri: '/new' } }),
      get('/old?x'),
      / 308 [\s\S]*location: http:\/\/shop\.test\/new\?x/,
    ],
    [
      'the rule has the answer',
      sampleRule('a', undefined, {
        action: { kind: 'answer', status: 418, body: Buffer.from('teapot').toString('base64') },
      }),
      get(),
      / 418 [\s\S]*\r\n\r\nteapot$/,
    ],
    [
      'the rule cannot be followed',
      sampleRule('bad', undefined, { action: { kind: 'broken', reason: 'delegate is not supported' } }),
      get(),
      / 503 [\s\S]*rule shop\/web\/bad cannot be followed: delegate is not supported/,
    ],
    [
      'the rule aborts',
      sampleRule('a', undefined, { fault: { abort: { percent: 100, status: 555 } } }),
      get(),
      /^HTTP\/1\.1 555 /,
    ],
    [
      'the destination is unknown',
      sampleRule('a', undefined, {
        action: {
          kind: 'forward',
          mirrors: [],
          destinations: [{ host: 'nowhere', weight: 1, headers: sampleRule('x').headers }],
        },
      }),
      get(),
      / 503 [\s\S]*there is no Service shop\/nowhere/,
    ],
  ]
  for (const [name, rule, request, expected] of cases) {
    test(`because ${name}`, async () => {
      using site = siteWith(rule)
      assert.match(await site.ask(request), expected)
      assert.deepEqual(site.dialled, [])
      assert.equal(site.records.length, 1)
    })
  }

  test('because a host has another certificate', async () => {
    using site = siteWith(sampleRule('a', { authority: { kind: 'exact', value: 'shop.test' } }))
    assert.match(await site.ask(get().replace('shop.test', 'other.test')), / 404 /)
  })
})

suite('rules of a request', () => {
  test('are asked in order, and named in the record', async () => {
    using site = siteWith(sampleRule('first', prefix('/a')), sampleRule('second', prefix('/a/b')), sampleRule('rest'))
    for (const path of ['/a/b', '/c']) await site.ask(get(path))
    assert.deepEqual(
      site.records.map(({ route }) => route),
      ['shop/web/first', 'shop/web/rest'],
    )
  })

  test('change the fields of request and answer, for this request only', async () => {
    const seen: string[] = []
    const backend = answering((request) => {
      seen.push(request)
      return 'HTTP/1.1 200 OK\r\nx-secret: 1\r\ncontent-length: 0\r\n\r\n'
    })
    const changed = sampleRule('changed', prefix('/changed'), {
      headers: {
        request: { set: { 'x-set': '1', host: 'inner.test' }, add: { 'x-add': '2' }, remove: ['x-gone'] },
        response: { set: { 'x-answer': '3' }, add: {}, remove: ['x-secret'] },
      },
    })
    using site = new SampleSite({ http: [changed, sampleRule('plain')], backends: { '10.0.0.1': backend } })
    const { client, received } = site.connect()
    // The same head but for its first line: what one rule changes must not be kept for the other.
    for (const path of ['/changed', '/plain', '/changed']) {
      client.write(get(path, 'X-Gone: 1'))
      const answers = site.records.length + 1
      await until(() => site.records.length === answers)
    }
    await until(() => received().split('HTTP/1.1').length === 4)
    for (const at of [0, 2]) {
      assert.match(seen[at] ?? '', /host: inner\.test\r\n[\s\S]*x-set: 1\r\nx-add: 2\r\n/)
      assert.doesNotMatch(seen[at] ?? '', /x-gone/i)
    }
    assert.match(seen[1] ?? '', /host: shop\.test\r\n[\s\S]*X-Gone: 1/)
    assert.doesNotMatch(seen[1] ?? '', /x-set|x-add/)
    const answers = received().split('HTTP/1.1 200 OK').slice(1)
    assert.deepEqual(
      answers.map((answer) => [answer.includes('x-answer: 3'), answer.includes('x-secret')]),
      [
        [true, false],
        [false, true],
        [true, false],
      ],
    )
  })

  test('are obeyed anew for each request of a connection, in order', async () => {
    const slow = answering((request, stream) => {
      const name = /GET (\S+)/.exec(request)?.[1]
      setTimeout(() => stream.write(`HTTP/1.1 200 OK\r\nx-path: ${name}\r\ncontent-length: 0\r\n\r\n`), 5)
      return undefined
    })
    using site = new SampleSite({ http: [sampleRule('all')], backends: { '10.0.0.1': slow } })
    const { client, received } = site.connect()
    client.write(get('/1') + get('/2') + get('/3'))
    await until(() => site.records.length === 3)
    await until(() => received().includes('x-path: /3'))
    assert.deepEqual(
      [...received().matchAll(/x-path: (\S+)/g)].map(([, path]) => path),
      ['/1', '/2', '/3'],
    )
  })

  test('copy requests to a mirror, whose answer nobody waits for', async () => {
    const seen: string[] = []
    const backend = answering((request) => {
      seen.push(request.slice(request.indexOf('\r\n') + 2).split('\r\n')[0] ?? '')
      return 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n'
    })
    const rule = sampleRule('mirrored')
    if (rule.action.kind !== 'forward') throw new Error('the sample does something else')
    const mirrors = [
      { host: 'web', port: 80, percent: 100 },
      { host: 'web', port: 80, percent: 10 },
      { host: 'nowhere', percent: 100 },
    ]
    using site = new SampleSite({
      http: [{ ...rule, action: { ...rule.action, mirrors } }],
      backends: { '10.0.0.1': backend },
    })
    assert.match(await site.ask(get()), / 200 OK/)
    await until(() => seen.length === 2)
    assert.deepEqual(seen.toSorted(), ['host: shop.test', 'host: shop.test-shadow'])
  })

  test('delay requests, and let some of them be', async () => {
    const delayed = sampleRule('slow', undefined, { fault: { delay: { percent: 100, delayMs: 30 } } })
    const spared = sampleRule('quick', prefix('/quick'), { fault: { abort: { percent: 50, status: 555 } } })
    using site = siteWith(spared, delayed)
    // The draw is 0.5, which is not below 50 %.
    assert.match(await site.ask(get('/quick')), / 200 OK/)
    assert.match(await site.ask(get('/slow')), / 200 OK/)
    assert.ok((site.records[1]?.durationMs ?? 0) >= 29)
  })

  test('answer for pages of other origins', async () => {
    const cors = {
      origins: [{ kind: 'exact', value: 'https://a.test' }] as const,
      methods: ['PUT'],
      headers: [],
      exposeHeaders: ['x-backend'],
      allowCredentials: false,
      unmatchedPreflights: 'forward' as const,
    }
    using site = siteWith(sampleRule('all', undefined, { cors }))
    const preflight = get('/', 'Origin: https://a.test', 'Access-Control-Request-Method: PUT').replace('GET', 'OPTIONS')
    assert.match(await site.ask(preflight), /^HTTP\/1\.1 200 [\s\S]*access-control-allow-methods: PUT/)
    assert.deepEqual(site.dialled, [])
    assert.match(await site.ask(get('/', 'Origin: https://a.test')), /x-backend: one[\s\S]*access-control-allow-origin/)
    assert.doesNotMatch(await site.ask(get('/', 'Origin: https://b.test')), /access-control/)
  })

  test('leave caches what backends say that answers depend on', async () => {
    const cors = {
      origins: [{ kind: 'exact', value: 'https://a.test' }] as const,
      methods: [],
      headers: [],
      exposeHeaders: [],
      allowCredentials: false,
      unmatchedPreflights: 'forward' as const,
    }
    const fields = 'Vary: Accept-Encoding\r\nAccess-Control-Allow-Origin: *\r\n'
    using site = new SampleSite({
      http: [sampleRule('all', undefined, { cors })],
      backends: { '10.0.0.1': answering(() => `HTTP/1.1 200 OK\r\n${fields}content-length: 0\r\n\r\n`) },
    })
    const answer = await site.ask(get('/', 'Origin: https://a.test'))
    assert.match(answer, /Vary: Accept-Encoding\r\n/)
    assert.match(answer, /\r\nvary: origin\r\n/)
    assert.deepEqual(answer.match(/access-control-allow-origin: .*/gi), ['access-control-allow-origin: https://a.test'])
  })
})
