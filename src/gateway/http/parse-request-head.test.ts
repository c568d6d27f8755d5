import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { MessageError } from './head.ts'
import { RequestHeadParser } from './parse-request-head.ts'

const parse = (...lines: readonly string[]) => new RequestHeadParser('http').parse(lines.join('\r\n'))

function statusOf(...lines: readonly string[]): number | string {
  try {
    parse(...lines)
    return 'accepted'
  } catch (error) {
    assert.ok(error instanceof MessageError)
    return error.status
  }
}

suite('the head of a request', () => {
  test('is read with its names as they were written', () => {
    const head = parse('POST /a?b HTTP/1.1', 'Host: a.org:80', 'X-Case:  v ', 'Content-Length: 3', 'X-Empty:')
    assert.deepEqual([head.method, head.target, head.authority, head.closes], ['POST', '/a?b', 'a.org:80', false])
    assert.deepEqual(head.body, { kind: 'length', length: 3 })
    assert.equal(head.headers.render(), 'X-Case: v\r\nContent-Length: 3\r\nX-Empty: \r\n')
    assert.equal(head.headers.has('host'), false)
  })

  test('says whether a body follows, and how it ends', () => {
    assert.deepEqual(parse('GET / HTTP/1.1', 'Host: a').body, { kind: 'none' })
    assert.deepEqual(parse('GET / HTTP/1.1', 'Host: a', 'Transfer-Encoding: Chunked').body, { kind: 'chunked' })
  })

  test('may name its host in the target', () => {
    const { target, authority } = parse('GET http://A.org/x?y HTTP/1.1', 'Host: a.org')
    assert.deepEqual([target, authority], ['/x?y', 'A.org'])
    assert.equal(parse('GET http://a HTTP/1.1', 'Host: a').target, '/')
    assert.equal(parse('OPTIONS * HTTP/1.1', 'Host: a').target, '*')
  })

  test('may ask for WebSocket, when nothing speaks against it', () => {
    const upgrade = ['Connection: keep-alive, Upgrade', 'Upgrade: websocket']
    assert.equal(parse('GET / HTTP/1.1', 'Host: a', ...upgrade).isUpgrade, true)
    assert.equal(parse('POST / HTTP/1.1', 'Host: a', ...upgrade).isUpgrade, false)
    assert.equal(parse('GET / HTTP/1.1', 'Host: a', ...upgrade, 'Content-Length: 1').isUpgrade, false)
    assert.equal(parse('GET / HTTP/1.1', 'Host: a', 'Connection: Upgrade', 'Upgrade: h2c').isUpgrade, false)
    assert.equal(parse('GET / HTTP/1.1', 'Host: a', 'Upgrade: websocket').isUpgrade, false)
  })

  test('tells that the connection ends', () => {
    assert.equal(parse('GET / HTTP/1.1', 'Host: a', 'Connection: x, Close').closes, true)
  })

  const first = 'GET / HTTP/1.1'
  const cases: readonly (readonly [number, string, ...string[]])[] = [
    [400, ''],
    [400, 'GET /'],
    [400, 'GET  / HTTP/1.1', 'Host: a'],
    [400, 'GET / HTTP/1.1 ', 'Host: a'],
    [400, ' GET / HTTP/1.1', 'Host: a'],
    [400, 'GET\t/ HTTP/1.1', 'Host: a'],
    [400, 'G(T / HTTP/1.1', 'Host: a'],
    [400, 'GET / http/1.1', 'Host: a'],
    [426, 'GET / HTTP/1.0', 'Host: a'],
    [505, 'GET / HTTP/2.0', 'Host: a'],
    [400, 'GET x HTTP/1.1', 'Host: a'],
    [400, 'GET * HTTP/1.1', 'Host: a'],
    [400, 'GET /a#b HTTP/1.1', 'Host: a'],
    [400, 'GET /\xe4 HTTP/1.1', 'Host: a'],
    [400, 'GET ftp://a/ HTTP/1.1', 'Host: a'],
    [400, 'GET http://b/ HTTP/1.1', 'Host: a'],
    [400, 'GET http://a@b/ HTTP/1.1', 'Host: a@b'],
    [405, 'CONNECT a:80 HTTP/1.1', 'Host: a'],
    [400, first],
    [400, first, 'Host: a', 'Host: a'],
    [400, first, 'Host: a, b'],
    [400, first, 'Host: a b'],
    [400, first, 'Host: a/b'],
    [400, first, 'Host:'],
    [400, first, 'Host: a:port'],
    [400, first, 'Host : a'],
    [400, first, 'Host: a', ' folded'],
    [400, first, 'Host: a', ': no name'],
    [400, first, 'Host: a', 'no colon'],
    [400, first, 'Host: a', 'X\0: a'],
    [400, first, 'Host: a', 'X: a\0'],
    [400, first, 'Host: a', 'X: a\rb'],
    [400, first, 'Host: a', 'X: a\nContent-Length: 1'],
    [400, first, 'Host: a', 'X: \x7f'],
    [400, first, 'Host: a', 'Content-Length: 1', 'Content-Length: 1'],
    [400, first, 'Host: a', 'Content-Length: 1, 1'],
    [400, first, 'Host: a', 'Content-Length: -1'],
    [400, first, 'Host: a', 'Content-Length: 0x1'],
    [400, first, 'Host: a', 'Content-Length: 1e3'],
    [400, first, 'Host: a', 'Content-Length:'],
    [400, first, 'Host: a', 'Content-Length: 9999999999999999'],
    [400, first, 'Host: a', 'Content-Length: 1', 'Transfer-Encoding: chunked'],
    [400, first, 'Host: a', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'],
    [501, first, 'Host: a', 'Transfer-Encoding: gzip, chunked'],
    [501, first, 'Host: a', 'Transfer-Encoding: chunked, identity'],
    [501, first, 'Host: a', 'Transfer-Encoding: identity'],
    [501, first, 'Host: a', 'Transfer-Encoding:'],
    [417, first, 'Host: a', 'Expect: 200-ok'],
    [431, first, 'Host: a', ...Array.from({ length: 300 }, () => 'X: y')],
  ]
  for (const [status, ...lines] of cases) {
    test(`is refused with ${status}: ${JSON.stringify(lines.slice(0, 4))}`, () =>
      assert.equal(statusOf(...lines), status))
  }
})

test('heads of one connection that differ in their first line have the same fields, and others their own', () => {
  const parser = new RequestHeadParser('https')
  const parseNext = (...lines: readonly string[]) => parser.parse(lines.join('\r\n'))
  const first = parseNext('GET /a HTTP/1.1', 'Host: a', 'X: 1')
  const second = parseNext('GET /b HTTP/1.1', 'Host: a', 'X: 1')
  assert.deepEqual([second.method, second.target, second.authority, second.scheme], ['GET', '/b', 'a', 'https'])
  assert.equal(second.headers, first.headers)
  const third = parseNext('POST /b HTTP/1.1', 'Host: b', 'Content-Length: 1')
  assert.deepEqual([third.authority, third.headers.get('x'), third.body.kind], ['b', undefined, 'length'])
  assert.throws(() => parseNext('GET /c HTTP/1.1', 'Host: b', 'Content-Length: x'), MessageError)
  assert.throws(() => parseNext('GET http://a/ HTTP/1.1', 'Host: b', 'Content-Length: 1'), MessageError)
  const upgrade = ['Host: a', 'Connection: Upgrade', 'Upgrade: websocket']
  assert.equal(parseNext('GET / HTTP/1.1', ...upgrade).isUpgrade, true)
  assert.equal(parseNext('POST / HTTP/1.1', ...upgrade).isUpgrade, false)
})
