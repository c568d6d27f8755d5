import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endToEndHeaders, hasHeader } from './headers.ts'

test('fields of one hop are dropped, and those that Connection names', () => {
  const headers = [
    'Host',
    'a',
    'Connection',
    'close, X-Hop',
    'x-hop',
    '1',
    'Keep-Alive',
    '5',
    'Upgrade',
    'h2c',
    'X',
    'y',
  ]
  assert.deepEqual(endToEndHeaders(headers), ['Host', 'a', 'X', 'y'])
})

test('several Connection fields count together', () => {
  assert.deepEqual(endToEndHeaders(['Connection', 'A', 'connection', 'b ,C', 'a', '1', 'B', '2', 'c', '3', 'd', '4']), [
    'd',
    '4',
  ])
})

test('the framing and the host cannot be dropped by naming them', () => {
  const headers = ['Connection', 'Content-Length, Host', 'Content-Length', '4', 'Host', 'a']
  assert.deepEqual(endToEndHeaders(headers), ['Content-Length', '4', 'Host', 'a'])
})

test('a field is found whatever its spelling', () => {
  assert.equal(hasHeader(['CONTENT-length', '1'], 'content-length'), true)
  assert.equal(hasHeader(['X', 'content-length'], 'content-length'), false)
})
