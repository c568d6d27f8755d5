import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listDifference } from './list-difference.ts'

const cases: readonly (readonly [before: string, after: string, removed: string, added: string])[] = [
  ['abcd', 'abcd', '', ''],
  ['', 'ab', '', 'ab'],
  ['ab', '', 'ab', ''],
  ['abcd', 'axcd', 'b', 'x'],
  ['abcd', 'xbcy', 'ad', 'xy'],
  ['abcd', 'acd', 'b', ''],
  ['abcd', 'abxcd', '', 'x'],
  ['abcdef', 'axcyf', 'bde', 'xy'],
]

for (const [before, after, removed, added] of cases) {
  test(`from "${before}" to "${after}" are removed "${removed}" and added "${added}"`, () => {
    const difference = listDifference([...before], [...after])
    assert.deepEqual(difference, { removed: [...removed], added: [...added] })
  })
}

test('what changed its place is told as removed or added in a way that leads from one list to the other', () => {
  const difference = listDifference([...'abc'], [...'cab'])
  const set = new Set('abc')
  for (const item of difference.removed) set.delete(item)
  for (const item of difference.added) set.add(item)
  assert.deepEqual([...set].sort(), [...'abc'])
})
