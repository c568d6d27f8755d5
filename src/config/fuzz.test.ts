/** Whatever is in a file, the answer is a configuration or a `ConfigError` with complete problems, and soon. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { repeatableRandom } from '../runtime/repeatable-random.fixture.ts'
import { roles } from './documents.ts'
import { parseConfig } from './load-config.ts'
import { ConfigError } from './problem.ts'
import { renderDefaultConfig } from './samples.ts'

const env = { NODE_NAME: 'edge-a1' }

/** Repeatable random numbers in 0..limit-1. */
function createRandom(seed: number): (limit: number) => number {
  const random = repeatableRandom(seed)
  return (limit) => Math.floor(random() * limit)
}

/** Parses; fails unless the outcome is one of the two that are allowed. True when the document is refused. */
function isRefused(text: string): boolean {
  let refusals = 0
  for (const role of roles) {
    try {
      assert.equal(typeof parseConfig(role, text, 'a.yaml', env).config.nodeName, 'string')
    } catch (error) {
      if (!(error instanceof ConfigError))
        throw new Error(`not a ConfigError for ${JSON.stringify(text)}`, { cause: error })
      assert.ok(error.problems.length > 0)
      for (const problem of error.problems) {
        assert.ok(problem.remedy.length > 0 && (problem.line ?? 0) >= 1 && (problem.column ?? 0) >= 1)
      }
      assert.equal(error.message.split('\n').length, error.problems.length)
      refusals += 1
    }
  }
  return refusals > 0
}

const scraps = [
  ...[
    'modules:',
    'edgeTunnel:',
    'servers:',
    'kind: EdgeMeshAgent',
    '__proto__: 1',
    'constructor: {}',
    '? a',
    '- ',
    '{',
    '}',
    '[',
    ']',
  ],
  ...[
    '&a ',
    '*a',
    '!!binary aGk=',
    '!x ',
    '<<: *a',
    '|',
    '>-',
    '"',
    "'",
    '\\',
    '#',
    '---',
    '...',
    '%YAML 1.1',
    '\t',
    '\n',
    '\n  ',
    '  ',
  ],
  ...['0x1f', '.inf', '~', 'null', '1e999', '2001-01-01', ': ', ',', '\u0000', '\u2028', '\ud800', '😀', ':', '@', '`'],
]

test('random scraps of YAML are refused or taken, never a crash', () => {
  const random = createRandom(1)
  let refused = 0
  for (let round = 0; round < 600; round++) {
    const parts = Array.from({ length: 1 + random(12) }, () => scraps[random(scraps.length)] ?? '')
    if (isRefused(parts.join(random(2) === 0 ? '' : '\n'))) refused += 1
  }
  assert.ok(refused > 300, `only ${refused} of 600 were refused`)
})

test('a valid document with a few characters changed is refused or taken, never a crash', () => {
  const random = createRandom(2)
  const valid = renderDefaultConfig('agent')
  let refused = 0
  for (let round = 0; round < 150; round++) {
    const characters = [...valid]
    for (let change = 0; change <= random(3); change++) {
      characters[random(characters.length)] = scraps[random(scraps.length)] ?? ''
    }
    if (isRefused(characters.join(''))) refused += 1
  }
  assert.ok(refused > 100, `only ${refused} of 150 were refused`)
})

test('documents made to exhaust the parser are refused', () => {
  const bomb = [
    'a: &a [x,x,x,x,x,x,x,x,x]',
    ...'bcdefgh'.split('').map((name, index) => {
      const before = 'abcdefg'[index]
      return `${name}: &${name} [${Array(9).fill(`*${before}`).join(',')}]`
    }),
  ].join('\n')
  for (const text of [bomb, '['.repeat(20_000), '{a: '.repeat(20_000), '- '.repeat(20_000), `? ${'? '.repeat(2000)}`]) {
    assert.ok(isRefused(text))
  }
})
