import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HashKey } from '../../model/index.ts'
import { type KeyedRequest, requestKeyOf } from './request-key.ts'

function keyOf(key: HashKey, request: Partial<KeyedRequest>) {
  const policy = { kind: 'consistent-hash', key, ring: { kind: 'ring' } } as const
  return requestKeyOf(policy, { headers: {}, ...request }, () => 'made')
}

test('a header is the key, whatever its spelling in the rule, and an empty one is a key as well', () => {
  const byUser: HashKey = { kind: 'http-header', name: 'X-User' }
  assert.deepEqual(keyOf(byUser, { headers: { 'x-user': 'alice' } }), { key: 'alice' })
  assert.deepEqual(keyOf(byUser, { headers: { 'x-user': '' } }), { key: '' })
  assert.deepEqual(keyOf(byUser, {}), {})
  assert.deepEqual(keyOf({ kind: 'http-header', name: 'Set-Cookie' }, { headers: { 'set-cookie': ['a', 'b'] } }), {
    key: 'a, b',
  })
})

test('a parameter of the query is the key', () => {
  const byId: HashKey = { kind: 'query-parameter', name: 'id' }
  assert.deepEqual(keyOf(byId, { url: '/a?x=1&id=a%20b&id=2' }), { key: 'a b' })
  assert.deepEqual(keyOf(byId, { url: '/a?id=' }), { key: '' })
  for (const url of ['/a', '/a?', '/a?ids=1', '/id=1', '/a#?id=1']) assert.deepEqual(keyOf(byId, { url }), {}, url)
})

test('a cookie is the key (D-11)', () => {
  const byCookie: HashKey = { kind: 'http-cookie', name: 'user' }
  assert.deepEqual(keyOf(byCookie, { headers: { cookie: 'a=b; user=alice; c=d' } }), { key: 'alice' })
  assert.deepEqual(keyOf(byCookie, { headers: { cookie: 'user=a=b' } }), { key: 'a=b' })
  for (const cookie of ['', 'users=x', 'user', 'xuser=y'])
    assert.deepEqual(keyOf(byCookie, { headers: { cookie } }), {})
})

test('a cookie that is not there is made where the rule gives it a time to live', () => {
  const cookie = { kind: 'http-cookie', name: 'user' } as const
  assert.deepEqual(keyOf({ ...cookie, ttlMs: 1_500, path: '/shop' }, {}), {
    key: 'made',
    setCookie: 'user=made; Max-Age=2; Path=/shop; HttpOnly',
  })
  assert.deepEqual(keyOf({ ...cookie, ttlMs: 0 }, {}), { key: 'made', setCookie: 'user=made; Path=/; HttpOnly' })
  assert.deepEqual(keyOf({ ...cookie, ttlMs: 0 }, { headers: { cookie: 'user=x' } }), { key: 'x' })
})

test('other policies want no key', () => {
  assert.deepEqual(keyOf({ kind: 'source-ip' }, { headers: { cookie: 'a=b' } }), {})
  assert.deepEqual(
    requestKeyOf({ kind: 'random' }, { headers: {} }, () => 'made'),
    {},
  )
})
