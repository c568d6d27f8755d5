import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exitCodeMeanings, exitCodeOf, exitCodes } from './exit-codes.ts'

test('an error that knows its exit code decides, also as the cause of another', () => {
  const config = Object.assign(new Error('bad'), { exitCode: 78 })
  assert.equal(exitCodeOf(config), exitCodes.config)
  assert.equal(exitCodeOf(new Error('Cannot start', { cause: config })), exitCodes.config)
})

test('error codes of the system and of this program have exit codes', () => {
  const expected = [
    ['EADDRINUSE', 69],
    ['EDGEMESH_ALREADY_RUNNING', 69],
    ['EDGEMESH_ADDRESS_TAKEN', 69],
    ['EDGEMESH_MISSING_COMMAND', 71],
    ['EACCES', 77],
    ['EPERM', 77],
    ['EDGEMESH_NOT_PERMITTED', 77],
  ] as const
  for (const [code, exitCode] of expected) {
    const cause = Object.assign(new Error(code), { code })
    assert.equal(exitCodeOf(new Error('Cannot start', { cause })), exitCode, code)
  }
})

test('of several errors at once the first decides', () => {
  const errors = ['EPERM', 'ENOENT'].map((code) => Object.assign(new Error(code), { code }))
  assert.equal(exitCodeOf(new AggregateError(errors, 'Cannot clean up')), exitCodes.permission)
  assert.equal(exitCodeOf(new AggregateError([], 'Cannot clean up')), exitCodes.failure)
})

test('everything else is a plain failure, also what is no error or its own cause', () => {
  const circular: Error & { cause?: unknown } = new Error('round')
  circular.cause = circular
  const odd = [
    new Error('x'),
    'text',
    undefined,
    null,
    circular,
    { exitCode: 0 },
    { exitCode: 256 },
    { code: 'ENOENT' },
  ]
  for (const error of odd) assert.equal(exitCodeOf(error), exitCodes.failure)
})

test('every exit code is explained', () => {
  assert.deepEqual([...exitCodeMeanings.keys()], Object.values(exitCodes))
})
