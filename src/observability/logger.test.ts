import assert from 'node:assert/strict'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { createLogger } from './logger.ts'

test('a line names the node, the level and the error with its causes', () => {
  const folder = mkdtempSync(join(tmpdir(), 'edgemesh-logger-'))
  const file = openSync(join(folder, 'log'), 'a')
  try {
    const logger = createLogger('info', 'edge-a', file)
    logger.debug({}, 'unseen')
    const error = new Error('Cannot listen', { cause: new Error('EADDRINUSE') })
    logger.child({ component: 'dns' }).warn({ error }, 'trying again')
    const { time, ...line } = JSON.parse(readFileSync(join(folder, 'log'), 'utf8'))
    const expected = { node: 'edge-a', level: 'warn', component: 'dns', error: 'Cannot listen: EADDRINUSE' }
    assert.deepEqual(line, { ...expected, msg: 'trying again' })
    assert.ok(Date.parse(time) > 0)
  } finally {
    closeSync(file)
    rmSync(folder, { recursive: true })
  }
})

test('a disk that is full ends nobody who writes a log', () => {
  const file = openSync('/dev/full', 'w')
  try {
    const logger = createLogger('info', 'edge-a', file)
    for (let line = 0; line < 3; line++) assert.doesNotThrow(() => logger.info({ reason: 'x'.repeat(40_000) }, 'line'))
  } finally {
    closeSync(file)
  }
})
