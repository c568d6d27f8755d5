import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MessageError } from './head.ts'
import { ResponseHeadParser } from './parse-response-head.ts'

const parse = (method: string, ...lines: readonly string[]) =>
  new ResponseHeadParser().parse(lines.join('\r\n'), method)

test('an answer says how its body ends', () => {
  assert.deepEqual(parse('GET', 'HTTP/1.1 200 OK', 'Content-Length: 3').body, { kind: 'length', length: 3 })
  assert.deepEqual(parse('GET', 'HTTP/1.1 200', 'Transfer-Encoding: chunked').body, { kind: 'chunked' })
  assert.deepEqual(parse('GET', 'HTTP/1.1 200 OK').body, { kind: 'until-close' })
  for (const [method, status] of [
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
    ['GET', 103],
  ] as const) {
    assert.deepEqual(parse(method, `HTTP/1.1 ${status} X`, 'Content-Length: 3').body, { kind: 'none' })
  }
})

test('an answer says whether its connection ends', () => {
  const closes = (...lines: readonly string[]) => parse('GET', ...lines, 'Content-Length: 0').closes
  assert.equal(closes('HTTP/1.1 200 OK'), false)
  assert.equal(closes('HTTP/1.1 200 OK', 'Connection: Close'), true)
  assert.equal(closes('HTTP/1.0 200 OK'), true)
  assert.equal(closes('HTTP/1.0 200 OK', 'Connection: keep-alive'), false)
})

test('what is no answer is told', () => {
  for (const line of ['HTTP/2 200 OK', 'HTTP/1.1 20 OK', 'HTTP/1.1  200 OK', '', 'GET / HTTP/1.1']) {
    assert.throws(() => parse('GET', line), MessageError, line)
  }
  assert.throws(() => parse('GET', 'HTTP/1.1 200 OK', 'Content-Length: 3', 'Transfer-Encoding: chunked'), MessageError)
})

test('the same head is read once for the same method', () => {
  const parser = new ResponseHeadParser()
  const head = 'HTTP/1.1 200 OK\r\nContent-Length: 3'
  const first = parser.parse(head, 'GET')
  assert.equal(parser.parse(head, 'GET'), first)
  assert.deepEqual(parser.parse(head, 'HEAD').body, { kind: 'none' })
  assert.deepEqual(parser.parse(head, 'GET').body, { kind: 'length', length: 3 })
  assert.equal(parser.parse('HTTP/1.1 404 No\r\nContent-Length: 3', 'GET').status, 404)
})
