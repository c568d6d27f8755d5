import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { HeaderFields } from './header-fields.ts'

function manyFields(): HeaderFields {
  const fields = HeaderFields.of({ 'X-One': '1', Accept: 'a' })
  fields.add('ACCEPT', 'accept', 'b')
  return fields
}

suite('header fields', () => {
  test('are found by lower-case name, the first one or all', () => {
    const fields = manyFields()
    assert.deepEqual([fields.get('accept'), fields.joined('accept')], ['a', 'a, b'])
    assert.deepEqual([fields.get('x-none'), fields.joined('x-none')], [undefined, undefined])
    assert.deepEqual([fields.has('x-one'), fields.has('X-One'), fields.size], [true, false, 3])
  })

  test('are rendered as they were written, in their order', () => {
    assert.equal(manyFields().render(), 'X-One: 1\r\nAccept: a\r\nACCEPT: b\r\n')
    assert.equal(new HeaderFields().render(), '')
  })

  test('are rendered anew after each change', () => {
    const fields = manyFields()
    fields.render()
    fields.delete('accept')
    assert.equal(fields.render(), 'X-One: 1\r\n')
    fields.add('x-two', 'x-two', '2')
    assert.equal(fields.render(), 'X-One: 1\r\nx-two: 2\r\n')
    fields.set('x-one', 'x-one', '3')
    assert.equal(fields.render(), 'x-two: 2\r\nx-one: 3\r\n')
  })

  test('of a copy are its own', () => {
    const fields = manyFields()
    fields.forwarded = fields
    const copy = fields.copy()
    copy.delete('accept')
    copy.add('x-two', 'x-two', '2')
    assert.equal(fields.size, 3)
    assert.deepEqual([copy.size, copy.forwarded], [2, undefined])
  })

  test('can be joined with those of another message', () => {
    const fields = manyFields()
    fields.addAll(HeaderFields.of({ Accept: 'c' }))
    assert.equal(fields.joined('accept'), 'a, b, c')
  })

  test('may have empty values', () => {
    const fields = HeaderFields.of({ 'X-Empty': '' })
    assert.deepEqual([fields.has('x-empty'), fields.get('x-empty'), fields.joined('x-empty')], [true, '', ''])
    fields.add('X-Empty', 'x-empty', 'a')
    assert.equal(fields.joined('x-empty'), ', a')
  })

  test('are visited in order', () => {
    const visited: string[] = []
    manyFields().forEach((name, lowerName, value) => {
      visited.push(`${name}/${lowerName}/${value}`)
    })
    assert.deepEqual(visited, ['X-One/x-one/1', 'Accept/accept/a', 'ACCEPT/accept/b'])
  })
})
