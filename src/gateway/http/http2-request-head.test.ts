import assert from 'node:assert/strict'
import type { IncomingHttpHeaders } from 'node:http2'
import { test } from 'node:test'
import { http2RequestHead } from './http2-request-head.ts'

const get = { ':method': 'GET', ':scheme': 'https', ':authority': 'a.test', ':path': '/x?y' }
const parse = (fields: IncomingHttpHeaders = {}, isComplete = true) =>
  http2RequestHead({ ...get, ...fields }, true, isComplete)

test('a request of HTTP/2 has the parts of one of HTTP/1.1', () => {
  const head = parse({ cookie: 'a=1', accept: '*/*', 'content-length': '3' }, false)
  assert.deepEqual(
    [head?.version, head?.method, head?.scheme, head?.authority, head?.target, head?.isUpgrade],
    ['2', 'GET', 'https', 'a.test', '/x?y', false],
  )
  assert.deepEqual(head?.body, { kind: 'length', length: 3 })
  assert.equal(head?.headers.render(), 'cookie: a=1\r\naccept: */*\r\n')
})

test('the end of the stream says whether a body follows', () => {
  assert.deepEqual(parse({}, true)?.body, { kind: 'none' })
  assert.deepEqual(parse({}, false)?.body, { kind: 'chunked' })
})

test('a WebSocket is a GET without a body', () => {
  const head = parse({ ':method': 'CONNECT', ':protocol': 'websocket' }, false)
  assert.deepEqual([head?.method, head?.isUpgrade, head?.body], ['GET', true, { kind: 'none' }])
})

test('what HTTP/1.1 would refuse is refused', () => {
  const refused: readonly IncomingHttpHeaders[] = [
    { ':method': 'CONNECT' },
    { ':method': 'CONNECT', ':protocol': 'connect-udp' },
    { ':path': 'x' },
    { ':path': '*' },
    { ':path': '/a b' },
    { ':path': '/a#b' },
    { ':authority': 'user@a.test' },
    { ':authority': 'a.test/x' },
    { host: 'b.test' },
  ]
  for (const fields of refused) assert.equal(parse(fields, false), undefined, JSON.stringify(fields))
  assert.equal(parse({ ':method': 'CONNECT', ':protocol': 'websocket' }, true), undefined)
  assert.equal(parse({ ':method': 'OPTIONS', ':path': '*' })?.target, '*')
  assert.equal(parse({ host: 'A.test' })?.headers.has('host'), false)
})
