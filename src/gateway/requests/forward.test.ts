import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { HttpRule, RetryPolicy } from '../../model/index.ts'
import { sampleRule } from '../samples.ts'
import { answering, named, type SampleBackend, SampleSite, until } from './sample-site.ts'

const get = (path = '/', ...fields: readonly string[]) =>
  `GET ${path} HTTP/1.1\r\nHost: shop.test\r\n${fields.map((field) => `${field}\r\n`).join('')}\r\n`
const post = (body: string) => `POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: ${body.length}\r\n\r\n${body}`
const ok = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
const failure = 'HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n'

/** A rule that forwards everything, with these parts of its action. */
function forwarding(action: { readonly retries?: Partial<RetryPolicy>; readonly timeoutMs?: number } = {}): HttpRule {
  const rule = sampleRule('all')
  if (rule.action.kind !== 'forward') throw new Error('the sample does something else')
  const retries = action.retries && { attempts: 2, conditions: [], statuses: [], ...action.retries }
  const { timeoutMs } = action
  return {
    ...rule,
    action: {
      ...rule.action,
      ...(retries !== undefined && { retries }),
      ...(timeoutMs !== undefined && { timeoutMs }),
    },
  }
}

suite('a request that goes to a backend', () => {
  test('takes its answer back, and leaves the connection for the next one', async () => {
    const seen: string[] = []
    using site = new SampleSite({
      http: [forwarding()],
      backends: {
        '10.0.0.1': answering((request) => {
          seen.push(request)
          return ok
        }),
      },
    })
    assert.match(
      await site.ask(get('/a', 'X-Kept: 1', 'Connection: keep-alive')),
      /^HTTP\/1\.1 200 OK\r\ncontent-length: 2\r\n\r\nok$/,
    )
    await site.ask(get('/b'))
    assert.deepEqual(site.dialled, ['10.0.0.1'])
    assert.match(
      seen[0] ?? '',
      /^GET \/a HTTP\/1\.1\r\nhost: shop\.test\r\nX-Kept: 1\r\nx-forwarded-for: 192\.0\.2\.1\r\n/,
    )
    assert.match(seen[1] ?? '', /^GET \/b HTTP\/1\.1\r\n/)
    assert.deepEqual(
      site.records.map(({ status, backend, tries, bytesOut }) => [status, backend, tries, bytesOut]),
      Array(2).fill([200, 'edge/10.0.0.1:8080', 1, 2]),
    )
  })

  test('carries its body, and says how much', async () => {
    let body = ''
    using site = new SampleSite({
      http: [forwarding()],
      backends: {
        '10.0.0.1': answering((text) => {
          body += text
          return body.endsWith('tail') ? ok : undefined
        }),
      },
    })
    const large = `${'x'.repeat(100_000)}tail`
    assert.match(await site.ask(post(large)), / 200 OK/)
    assert.ok(body.endsWith(large))
    assert.equal(site.records[0]?.bytesIn, large.length)
  })

  test('carries chunks and trailers in both directions', async () => {
    let seen = ''
    using site = new SampleSite({
      http: [forwarding()],
      backends: {
        '10.0.0.1': answering((text) => {
          seen += text
          if (!seen.endsWith('\r\n\r\n') || !seen.includes('0\r\n')) return undefined
          return 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n'
        }),
      },
    })
    const head = 'POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n'
    const answer = await site.ask(`${head}2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n`)
    assert.match(seen, /2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n$/)
    assert.match(answer, /3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n$/)
  })

  test('gets no trailer that is about a connection or a head, in either direction', async () => {
    let seen = ''
    const trailers = 'Content-Length: 5\r\nHost: evil.test\r\nTransfer-Encoding: chunked\r\nX-T: 1\r\n'
    using site = new SampleSite({
      http: [forwarding()],
      backends: {
        '10.0.0.1': answering((text) => {
          seen += text
          if (!seen.endsWith('\r\n\r\n') || !seen.includes('0\r\n')) return undefined
          return `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n${trailers}\r\n`
        }),
      },
    })
    const head = 'POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n'
    const answer = await site.ask(`${head}0\r\n${trailers}\r\n`)
    assert.match(seen, /\r\n\r\n0\r\nX-T: 1\r\n\r\n$/)
    assert.match(answer, /\r\n\r\n0\r\nX-T: 1\r\n\r\n$/)
  })

  test('is told of interim answers before the last one', async () => {
    using site = new SampleSite({
      http: [forwarding()],
      backends: { '10.0.0.1': answering(() => `HTTP/1.1 103 Early\r\nlink: </a>\r\n\r\n${ok}`) },
    })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 103 \r\nlink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK/)
  })

  test('takes another backend when one refuses, and says whom it asked', async () => {
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': undefined, '10.0.0.2': named('two') } })
    for (let times = 0; times < 4; times++) assert.match(await site.ask(get()), /x-backend: two/)
    assert.ok(site.dialled.includes('10.0.0.1'))
    assert.ok(site.records.some(({ tries }) => tries === 2))
  })

  test('is answered 503 when nobody is there, with the reasons', async () => {
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': undefined } })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 503 [\s\S]*edge\/10\.0\.0\.1:8080: connect ECONNREFUSED/)
    using empty = new SampleSite({ http: [forwarding()] })
    assert.match(await empty.ask(get()), /503 [\s\S]*shop\/web:http\/tcp has no endpoint that is ready/)
  })

  test('is asked again on a new connection when a kept one broke, if it may be', async () => {
    const connections: string[] = []
    const backend = answering((request, stream) => {
      const isFirst = !connections.includes('answered')
      connections.push(isFirst ? 'answered' : request.slice(0, 4))
      if (isFirst || connections.length > 2) return ok
      stream.destroy()
      return undefined
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    await site.ask(get())
    assert.match(await site.ask(get()), / 200 OK/)
    assert.deepEqual(site.dialled, ['10.0.0.1', '10.0.0.1'])
    connections.splice(1)
    assert.match(await site.ask(post('x')), /^HTTP\/1\.1 502 /)
  })

  test('by HEAD is told the length of what it lacks', async () => {
    for (const fields of ['content-length: 5\r\n', '', 'transfer-encoding: chunked\r\n']) {
      using site = new SampleSite({
        http: [forwarding()],
        backends: { '10.0.0.1': answering(() => `HTTP/1.1 200 OK\r\n${fields}x-a: 1\r\n\r\n`) },
      })
      const { client, received } = site.connect()
      client.write(get().replace('GET', 'HEAD') + get().replace('GET', 'HEAD'))
      await until(() => site.records.length === 2)
      await until(() => received().split('\r\n\r\n').length === 3)
      const length = fields.startsWith('content-length') ? fields : ''
      assert.equal(received(), `HTTP/1.1 200 OK\r\nx-a: 1\r\n${length}\r\n`.repeat(2))
      assert.deepEqual(site.dialled, ['10.0.0.1'])
    }
  })

  test('gets an answer without a body as one, whatever the backend says about its length', async () => {
    for (const status of [204, 304]) {
      using site = new SampleSite({
        http: [forwarding()],
        backends: { '10.0.0.1': answering(() => `HTTP/1.1 ${status} No\r\ncontent-length: 0\r\n\r\n`) },
      })
      const { client, received } = site.connect()
      client.write(get() + get())
      await until(() => site.records.length === 2)
      await until(() => received().split('\r\n\r\n').length === 3)
      assert.doesNotMatch(received(), /transfer-encoding/)
      assert.deepEqual(site.dialled, ['10.0.0.1'])
    }
  })

  test('gets an answer that ends with its connection in chunks', async () => {
    const backend = answering((_request, stream) => {
      stream.end('HTTP/1.0 200 OK\r\n\r\nall there is')
      return undefined
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    const { client, received } = site.connect()
    client.write(get())
    await until(() => received().endsWith('all there is\r\n0\r\n\r\n'))
    assert.match(received(), /^HTTP\/1\.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n/)
    assert.equal(site.pool.size, 0)
  })

  test('takes a new connection after an answer that ends the last one', async () => {
    const closing = 'HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok'
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': answering(() => closing) } })
    const { client, received } = site.connect()
    client.write(get() + get())
    await until(() => received().split('ok').length === 3)
    assert.deepEqual(site.dialled, ['10.0.0.1', '10.0.0.1'])
    assert.doesNotMatch(received(), /connection: close/)
  })

  test('is answered before its body is complete, and the rest of it is carried all the same', async () => {
    let seen = ''
    const backend = answering((text) => {
      const isFirst = seen === ''
      seen += text
      return isFirst ? 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n' : undefined
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    const { client, received } = site.connect()
    client.write('POST / HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n')
    await until(() => received().includes('early'))
    client.write('4\r\nlate\r\n0\r\n\r\n')
    await until(() => seen.endsWith('4\r\nlate\r\n0\r\n\r\n'))
    assert.equal(site.records.length, 0)
  })

  test('stays an ordinary one when the backend does not become a WebSocket', async () => {
    using site = new SampleSite({
      http: [forwarding()],
      backends: { '10.0.0.1': answering(() => 'HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno') },
    })
    const { client, received } = site.connect()
    client.write(get('/', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Key: x'))
    await until(() => received().endsWith('no'))
    client.write(get())
    await until(() => received().split('403 No').length === 3)
    assert.equal(site.records.length, 2)
  })

  test('asks for no other protocol than WebSocket', async () => {
    let seen = ''
    const backend = answering((text) => {
      seen += text
      return ok
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    await site.ask(get('/', 'Connection: Upgrade, HTTP2-Settings', 'Upgrade: h2c', 'HTTP2-Settings: AAMAAABk'))
    assert.doesNotMatch(seen, /upgrade|http2-settings/i)
  })

  test('is broken off when its answer breaks off', async () => {
    const backend = answering((_request, stream) => {
      stream.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
      setImmediate(() => setImmediate(() => stream.destroy()))
      return undefined
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    const { client } = site.connect()
    client.write(get())
    await until(() => client.destroyed)
    await until(() => site.records.length === 1)
    assert.deepEqual([site.records[0]?.status, site.records[0]?.bytesOut], [200, 4])
    assert.match(site.records[0]?.problem ?? '', /closed|reset|ECONNRESET/)
  })

  test('gets 502 for an answer that is none', async () => {
    for (const answer of [
      'HELLO\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n',
      'HTTP/1.1 101 Switch\r\n\r\n',
    ]) {
      using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': answering(() => answer) } })
      assert.match(await site.ask(get()), /^HTTP\/1\.1 502 /, answer)
    }
  })

  test('is given up when its client goes away', async () => {
    let state = ''
    const backend = answering((_request, stream) => {
      state = 'asked'
      stream.on('close', () => {
        state = 'gone'
      })
      return undefined
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    const { client } = site.connect()
    client.write(get())
    await until(() => state === 'asked')
    client.destroy()
    await until(() => state === 'gone')
    assert.equal(site.records[0]?.status, 499)
  })

  test('becomes a WebSocket when the backend agrees', async () => {
    const backend = answering((text) => {
      if (!text.startsWith('GET')) return `echo ${text}`
      return /upgrade: websocket/.test(text) ? 'HTTP/1.1 101 Switching\r\nupgrade: websocket\r\n\r\nhi' : failure
    })
    using site = new SampleSite({ http: [forwarding()], backends: { '10.0.0.1': backend } })
    const { client, received } = site.connect()
    client.write(get('/', 'Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Key: x'))
    await until(() => received().endsWith('\r\n\r\nhi'))
    client.write('ping')
    await until(() => received().endsWith('echo ping'))
    client.end()
    await until(() => site.records.length === 1)
    assert.deepEqual([site.records[0]?.status, site.records[0]?.bytesIn], [101, 4])
  })
})

suite('a rule with retries', () => {
  const failingOnce = () => {
    let isFirst = true
    return answering(() => {
      const answer = isFirst ? failure : ok
      isFirst = false
      return answer
    })
  }

  test('asks again after an answer that it names, with the same body', async () => {
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['5xx'] } })],
      backends: { '10.0.0.1': failingOnce() },
    })
    assert.match(await site.ask(post('again')), / 200 OK/)
    assert.equal(site.records[0]?.tries, 2)
  })

  for (const condition of ['connect-failure', '5xx', 'gateway-error', 'reset', 'reset-before-request'] as const) {
    test(`asks again where nobody could be reached, with ${condition}`, async () => {
      const backends: Record<string, SampleBackend | undefined> = { '10.0.0.1': undefined }
      using site = new SampleSite({ http: [forwarding({ retries: { conditions: [condition] } })], backends })
      const { client, received } = site.connect()
      client.write(get())
      await until(() => site.dialled.length === 1)
      backends['10.0.0.1'] = named('late')
      await until(() => received() !== '')
      assert.match(received(), / 200 OK\r\nx-backend: late/)
      assert.equal(site.dialled.length, 2)
    })
  }

  test('asks nobody again for another reason than it names', async () => {
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['refused-stream', 'unavailable', 'retriable-4xx'] } })],
      backends: { '10.0.0.1': undefined },
    })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 503 /)
    assert.equal(site.dialled.length, 1)
  })

  test('gives the last answer when all attempts fail', async () => {
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['5xx'] } })],
      backends: { '10.0.0.1': answering(() => failure) },
    })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 503 No\r\n/)
    assert.equal(site.records[0]?.tries, 3)
  })

  test('asks another backend when there is one', async () => {
    const backends = { '10.0.0.1': answering(() => failure), '10.0.0.2': named('two') }
    using site = new SampleSite({ http: [forwarding({ retries: { conditions: ['5xx'] } })], backends })
    for (let times = 0; times < 4; times++) assert.match(await site.ask(get()), /x-backend: two/)
    assert.ok(site.records.some(({ tries, backend }) => tries === 2 && backend === 'edge/10.0.0.2:8080'))
  })

  test('with no attempts asks once', async () => {
    using site = new SampleSite({
      http: [forwarding({ retries: { attempts: 0, conditions: ['5xx'] } })],
      backends: { '10.0.0.1': answering(() => failure) },
    })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 503 No/)
    assert.equal(site.records[0]?.tries, 1)
  })

  test('never asks again once the answer has begun', async () => {
    const backend = answering((_request, stream) => {
      stream.write('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
      setImmediate(() => setImmediate(() => stream.destroy()))
      return undefined
    })
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['5xx', 'reset'] } })],
      backends: { '10.0.0.1': backend },
    })
    const { client } = site.connect()
    client.write(get())
    await until(() => client.destroyed)
    assert.equal(site.dialled.length, 1)
  })

  test('does not ask again for a WebSocket that was refused', async () => {
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['5xx'] } })],
      backends: { '10.0.0.1': answering(() => failure) },
    })
    assert.match(await site.ask(get('/', 'Connection: Upgrade', 'Upgrade: websocket')), /^HTTP\/1\.1 503 No/)
    assert.equal(site.records[0]?.tries, 1)
  })

  test('stops when its client goes away between two attempts', async () => {
    let asked = 0
    const backend = answering(() => {
      asked += 1
      return failure
    })
    using site = new SampleSite({
      http: [forwarding({ retries: { attempts: 50, conditions: ['5xx'] } })],
      backends: { '10.0.0.1': backend },
    })
    const { client } = site.connect()
    client.write(get())
    await until(() => asked === 1)
    client.destroy()
    await until(() => site.records.length === 1)
    assert.equal(site.records[0]?.status, 499)
    assert.equal(asked, 1)
  })

  test('has no more time in all than the rule allows', async () => {
    using site = new SampleSite({
      http: [forwarding({ timeoutMs: 60, retries: { attempts: 1000, conditions: ['5xx'] } })],
      backends: { '10.0.0.1': answering(() => failure) },
    })
    assert.match(await site.ask(get()), /^HTTP\/1\.1 504 [\s\S]*within 60 ms/)
  })

  test('does not repeat a body that was too long to keep', async () => {
    let length = 0
    const backend = answering((text) => {
      length += text.length
      return length > 200_000 ? failure : undefined
    })
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['5xx'] } })],
      backends: { '10.0.0.1': backend },
    })
    assert.match(await site.ask(post('x'.repeat(200_000))), /^HTTP\/1\.1 503 No/)
    assert.equal(site.records[0]?.tries, 1)
  })

  test('does not wait longer than each attempt may take', async () => {
    let asked = 0
    const backend = answering(() => {
      asked += 1
      return asked === 1 ? undefined : ok
    })
    using site = new SampleSite({
      http: [forwarding({ retries: { conditions: ['gateway-error'], perTryTimeoutMs: 20 } })],
      backends: { '10.0.0.1': backend },
    })
    assert.match(await site.ask(get()), / 200 OK/)
    assert.equal(asked, 2)
  })
})

test('an answer that takes longer than its rule allows is broken off', async () => {
  const backend = answering(() => 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf')
  using site = new SampleSite({ http: [forwarding({ timeoutMs: 60 })], backends: { '10.0.0.1': backend } })
  const { client, received } = site.connect()
  client.write(get())
  await until(() => client.destroyed)
  assert.match(received(), /half$/)
  assert.deepEqual(
    site.records.map(({ status, problem }) => [status, problem]),
    [[200, 'edge/10.0.0.1:8080: the answer was not complete within 60 ms']],
  )
})

test('a request that takes longer than its rule allows is answered 504', async () => {
  using site = new SampleSite({
    http: [forwarding({ timeoutMs: 20 })],
    backends: { '10.0.0.1': answering(() => undefined) },
  })
  assert.match(await site.ask(get()), /^HTTP\/1\.1 504 [\s\S]*the answer was not complete within 20 ms/)
})
