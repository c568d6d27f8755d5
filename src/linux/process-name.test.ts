import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { nameProcess } from './process-name.ts'

test('the process carries the name, cut to what the kernel keeps', () => {
  const before = readFileSync('/proc/self/comm', 'utf8').trim()
  nameProcess('edgemesh-agent-of-tests')
  assert.equal(readFileSync('/proc/self/comm', 'utf8').trim(), 'edgemesh-agent-')
  nameProcess(before)
})
