import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLoggedTasks } from './logged-tasks.ts'
import { type Logger, silentLogger } from './logger.ts'

const never = new AbortController().signal

test('a task that fails is logged with its name, and one that is asked to stop is not', async () => {
  const lines: unknown[] = []
  const logger: Logger = { ...silentLogger, error: ({ task, error }, text) => void lines.push([task, error, text]) }
  const failure = new Error('no such file')
  const tasks = createLoggedTasks(logger)
  tasks.run('reading', () => Promise.reject(failure))
  await tasks.idle(never)
  tasks.run('waiting', (signal) => new Promise((_, reject) => signal.addEventListener('abort', reject)))
  await tasks[Symbol.asyncDispose]()
  const others = createLoggedTasks(logger, 'watching ended')
  others.run('watching', () => Promise.reject(failure))
  await others.idle(never)
  assert.deepEqual(lines, [
    ['reading', failure, 'background task failed'],
    ['watching', failure, 'watching ended'],
  ])
})
