import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Field } from './field.ts'
import { headerValue, tokenText, urlText } from './wire-text.ts'

test('values of headers go as UTF-8, and nothing in them ends a line', () => {
  assert.equal(headerValue(new Field('a\tb ~')), 'a\tb ~')
  assert.equal(Buffer.from(headerValue(new Field('€ü')), 'latin1').toString(), '€ü')
  // Two characters whose lower bytes are CR and LF.
  assert.doesNotMatch(headerValue(new Field('\u010d\u010a')), /[\r\n]/)
  for (const text of ['a\r\nb: c', 'a\0', 'a\nb', '\x7f']) {
    assert.throws(
      () => headerValue(new Field(text, ['set', 'x'])),
      /^ObjectParseError: set\.x: must not hold line ends/,
    )
  }
})

test('parts of URLs are as they stand in a request line', () => {
  assert.equal(urlText(new Field('/a%20b?c=(d)')), '/a%20b?c=(d)')
  assert.equal(urlText(new Field(undefined)), '')
  for (const text of ['/a b', '/\r\nx: y', '/ü', '\u010a']) {
    assert.throws(() => urlText(new Field(text, ['uri'])), /^ObjectParseError: uri: must be percent-encoded/)
  }
})

test('tokens hold no separators', () => {
  assert.deepEqual([tokenText(new Field('X-a_1')), tokenText(new Field(undefined))], ['X-a_1', ''])
  for (const text of ['a b', 'a;b', 'a=b', 'a\n']) assert.throws(() => tokenText(new Field(text)), /must be letters/)
})
