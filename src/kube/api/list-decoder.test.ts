import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { ApiProtocolError } from './errors.ts'
import { ListDecoder, type ListHead } from './list-decoder.ts'

const roomy = { itemBytes: 10_000, headBytes: 10_000 }

function decode(text: string, chunkBytes = text.length, limits = roomy): ListHead & { readonly items: unknown[] } {
  const decoder = new ListDecoder(limits)
  const bytes = Buffer.from(text)
  const items: unknown[] = []
  for (let at = 0; at < bytes.length; at += Math.max(1, chunkBytes)) {
    items.push(...decoder.push(bytes.subarray(at, at + Math.max(1, chunkBytes))))
  }
  return { items, ...decoder.finish() }
}

const tricky = {
  kind: 'ServiceList',
  apiVersion: 'v1',
  metadata: { resourceVersion: '42', continue: 'next', note: 'items":[{"', items: [{ no: 'item' }] },
  items: [
    { a: 'braces } ] { [ and "quotes" and \\ at the end \\' },
    { nested: { items: [1, { items: [] }], text: 'grüße 日本 \u2028' } },
    {},
    { last: [] },
  ],
  others: [{ no: 'item' }],
}

suite('a list', () => {
  test('gives what JSON.parse gives, however the bytes are chunked and the text is spaced', () => {
    for (const text of [JSON.stringify(tricky), JSON.stringify(tricky, undefined, 2)]) {
      for (let chunkBytes = 1; chunkBytes < 40; chunkBytes++) {
        const expected = { items: tricky.items, resourceVersion: '42', continueToken: 'next' }
        assert.deepEqual(decode(text, chunkBytes), expected)
      }
    }
  })

  test('may name its version after its items, and no version at all', () => {
    const after = '{"items":[{"a":1}],"metadata":{"resourceVersion":"7"},"kind":"List"}'
    assert.deepEqual(decode(after), { items: [{ a: 1 }], resourceVersion: '7', continueToken: '' })
    assert.deepEqual(decode('{"items":[]}'), { items: [], resourceVersion: '', continueToken: '' })
    const odd = '{"kind":"NodeList","metadata":{"resourceVersion":7,"selfLink":null},"items":[]}'
    assert.deepEqual(decode(odd), { items: [], resourceVersion: '', continueToken: '' })
  })

  test('may say null instead of an empty list', () => {
    const text = '{"kind":"ServiceList","metadata":{"resourceVersion":"1"},"items":null}'
    assert.deepEqual(decode(text), { items: [], resourceVersion: '1', continueToken: '' })
  })

  test('skips an item that is larger than the limit, and no other', () => {
    const items = [{ a: 1 }, { big: 'x'.repeat(100) }, { b: 2 }]
    for (const chunkBytes of [1, 7, 1000]) {
      const result = decode(JSON.stringify({ items }), chunkBytes, { ...roomy, itemBytes: 50 })
      assert.deepEqual(result.items, [{ a: 1 }, undefined, { b: 2 }])
    }
  })

  test('gives undefined for an item that is no JSON, and passes over items that are no objects', () => {
    assert.deepEqual(decode('{"items":[null, 5, {bad}, "x{", true, [1], {"a":1}]}').items, [undefined, [1], { a: 1 }])
  })
})

suite('an answer that is no list', () => {
  for (const [what, text] of Object.entries({
    'ends in the middle': '{"kind":"List","items":[{"a":1}',
    'closes more than it opens': '{"items":[]}]}',
    'is of another kind': '{"kind":"Status","code":500}',
    'is an array': '[{"items":[]}]',
    'is a page for people': '<html>{}</html>',
    'is empty': '',
  })) {
    test(what, () => {
      assert.throws(() => decode(text), ApiProtocolError)
    })
  }

  test('is larger than anything but items may be', () => {
    const text = JSON.stringify({ metadata: { x: 'y'.repeat(100) }, items: [] })
    assert.throws(() => decode(text, 10, { ...roomy, headBytes: 50 }), /too large/)
  })
})
