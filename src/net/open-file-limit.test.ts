import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { readOpenFileLimit } from './open-file-limit.ts'

test('the limit is the one that the kernel enforces', () => {
  const module = JSON.stringify(new URL('./open-file-limit.ts', import.meta.url).href)
  const script = `console.log((await import(${module})).readOpenFileLimit())`
  const command = 'ulimit -n 321; exec "$0" --input-type=module -e "$1"'
  assert.equal(execFileSync('/bin/sh', ['-c', command, process.execPath, script], { encoding: 'utf8' }).trim(), '321')
})

test('where the kernel tells nothing there is no limit to speak of', () => {
  assert.equal(readOpenFileLimit('/proc/self/no-such-file'), undefined)
  assert.equal(readOpenFileLimit('/proc/self/status'), undefined)
})
