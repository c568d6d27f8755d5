import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Logger, silentLogger } from '../observability/index.ts'
import { createElementUpdates } from './element-updates.ts'
import { RulesetRejectedError } from './errors.ts'
import type { ElementChange } from './ruleset-applier.ts'

const change: ElementChange = {
  containers: new Map([['nodes', { shape: ['type ipv4_addr'] }]]),
  added: [{ container: 'nodes', key: '10.0.0.1' }],
}

/** A kernel that gives one answer after the other: the errno of the only change, or what sending fails with. */
function setUp(...results: readonly (number | { readonly failsWith: number } | 'nothing')[]) {
  const left = [...results]
  const logged: string[] = []
  const write = (level: string) => (_: object, message: string) => void logged.push(`${level}: ${message}`)
  const logger: Logger = { ...silentLogger, info: write('info'), warn: write('warn') }
  const native = {
    changeNetfilter(_: Buffer, answers: Buffer): number {
      const result = left.shift() ?? 0
      if (result === 'nothing') return 0
      if (typeof result === 'object') return -result.failsWith
      answers.writeUInt32LE(36, 0)
      answers.writeUInt16LE(2, 4)
      answers.writeUInt32LE(1, 8)
      answers.writeInt32LE(-result, 16)
      return 36
    },
  }
  return { updates: createElementUpdates('edgemesh', native, logger), logged }
}

test('a change that the kernel takes is done', () => {
  const { updates, logged } = setUp(0)
  assert.equal(updates.way(), 'netlink')
  assert.equal(updates.tryChange(change), true)
  assert.deepEqual(logged, [])
})

test('what contradicts the table is refused as nft would', () => {
  const { updates, logged } = setUp(2, 17, 16)
  for (const [words, isConflict] of [
    ['No such file or directory', false],
    ['File exists', true],
    ['Device or resource busy', true],
  ] as const) {
    assert.throws(
      () => updates.tryChange(change),
      (error) => {
        assert.ok(error instanceof RulesetRejectedError)
        assert.equal(error.message, `Cannot apply the ruleset: ${words}, in "nodes"`)
        assert.equal(error.isConflict, isConflict)
        return true
      },
    )
  }
  assert.equal(updates.way(), 'netlink')
  assert.deepEqual(logged, [])
})

test('everything else is left to nft and told once, until it works again', () => {
  const EINVAL = 22
  const ENOBUFS = 105
  const { updates, logged } = setUp(EINVAL, { failsWith: ENOBUFS }, 'nothing', 0, { failsWith: ENOBUFS })
  for (let attempt = 0; attempt < 3; attempt++) {
    assert.equal(updates.tryChange(change), false)
    assert.equal(updates.way(), 'nft')
  }
  assert.equal(logged.length, 1)
  assert.equal(updates.tryChange(change), true)
  assert.equal(updates.way(), 'netlink')
  assert.equal(updates.tryChange(change), false)
  assert.deepEqual(logged, [
    'warn: cannot change elements of nftables by netlink; going on with nft',
    'info: elements of nftables are changed by netlink again',
    'warn: cannot change elements of nftables by netlink; going on with nft',
  ])
})

test('elements that cannot be encoded are left to nft', () => {
  const { updates, logged } = setUp()
  const added = [{ container: 'nodes', key: 'fe80::1' }]
  assert.equal(updates.tryChange({ ...change, added }), false)
  assert.equal(logged.length, 1)
})

test('without native code all is left to nft, which is nothing to tell of', () => {
  const updates = createElementUpdates('edgemesh', undefined, { ...silentLogger, warn: () => assert.fail('logged') })
  assert.equal(updates.tryChange(change), false)
  assert.equal(updates.way(), 'nft')
})
