import assert from 'node:assert/strict'
import { test } from 'node:test'
import { describeError } from '../../observability/index.ts'
import { errorOfLibrary } from './library-error.ts'

test('an error stays what it is', () => {
  const error = new Error('no')
  assert.equal(errorOfLibrary(error), error)
})

test('of an event that brings an error, that is it', () => {
  const error = new Error('read ECONNRESET')
  assert.equal(errorOfLibrary(Object.assign(new Event('close'), { error })), error)
})

test('an event that brings none is told as what it means', () => {
  assert.match(describeError(errorOfLibrary(new Event('close'))), /^the connection to the peer was lost/)
  assert.doesNotMatch(describeError(errorOfLibrary(new Event('close'))), /object/)
})
