import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { createLineWriter } from './line-writer.ts'

test('lines are written together after a moment, at once when there are many, and at the end', () => {
  mock.timers.enable({ apis: ['setTimeout'] })
  const written: string[] = []
  const writer = createLineWriter((text) => written.push(text))
  writer.write('a\n')
  writer.write('b\n')
  assert.deepEqual(written, [])
  mock.timers.tick(100)
  assert.deepEqual(written, ['a\nb\n'])
  writer.write('x'.repeat(70_000))
  assert.equal(written.length, 2)
  writer.write('c\n')
  writer[Symbol.dispose]()
  assert.equal(written.at(-1), 'c\n')
  writer[Symbol.dispose]()
  assert.equal(written.length, 3)
  mock.timers.reset()
})
