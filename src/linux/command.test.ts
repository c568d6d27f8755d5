import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import process from 'node:process'
import { test } from 'node:test'
import { runCommand } from './command.ts'
import { CommandFailedError, MissingCommandError, NotPermittedError } from './errors.ts'

const { signal } = new AbortController()
const node = (script: string, input = '') =>
  runCommand({ command: process.execPath, arguments: ['-e', script], input, action: 'change the test' }, signal)

test('a command gets its input and gives its output', async () => {
  assert.equal(await node('process.stdin.pipe(process.stdout)', 'a\nb\n'), 'a\nb\n')
})

test('a command that ends without reading its input is judged by its exit code', async () => {
  assert.equal(await node('process.exit(0)', 'x'.repeat(1_000_000)), '')
})

test('a failed command is told with its words', async () => {
  await assert.rejects(node('console.error("no such table"); process.exit(3)'), (error) => {
    assert.ok(error instanceof CommandFailedError)
    assert.match(error.message, /exit code 3: no such table$/)
    return true
  })
})

test('a refusal for lack of rights is a condition of its own', async () => {
  await assert.rejects(node('console.error("Operation not permitted"); process.exit(1)'), (error) => {
    assert.ok(error instanceof NotPermittedError)
    assert.match(error.message, /^Cannot change the test: permission denied; run edgemesh as root/)
    return true
  })
})

test('a missing command is named with its Debian package', async () => {
  const missing = { command: 'nft', arguments: [], action: 'x' }
  const path = process.env['PATH']
  process.env['PATH'] = '/nonexistent'
  try {
    await assert.rejects(runCommand(missing, signal), (error) => {
      assert.ok(error instanceof MissingCommandError)
      assert.equal(error.remedy, 'install it: apt-get install nftables')
      return true
    })
  } finally {
    process.env['PATH'] = path
  }
})

test('a node without file descriptors left makes a command fail, and nothing else', () => {
  const url = new URL('./command.ts', import.meta.url)
  const script = `
    import { openSync } from 'node:fs'
    import { runCommand } from '${url}'
    try { for (;;) openSync('/dev/null') } catch {}
    const run = runCommand({ command: '/bin/true', arguments: [], action: 'change the test' }, new AbortController().signal)
    await run.catch((error) => console.log(error.code))
  `
  const limited = ['-c', 'ulimit -n 100 && exec "$@"', '-', process.execPath, '--input-type=module', '-e', script]
  const { stdout, status } = spawnSync('/bin/sh', limited, { encoding: 'utf8' })
  assert.deepEqual({ stdout, status }, { stdout: 'EMFILE\n', status: 0 })
})

test('a command that never ends is ended when its time is up', async () => {
  const hanging = { command: process.execPath, arguments: ['-e', 'setTimeout(() => {}, 60000)'], action: 'wait' }
  const message = `Cannot wait: ${process.execPath} was not done within 50 ms`
  await assert.rejects(runCommand({ ...hanging, timeoutMs: 50 }, signal), { message })
})

test('an aborted signal ends the command', async () => {
  const running = runCommand(
    { command: process.execPath, arguments: ['-e', 'setTimeout(() => {}, 60000)'], action: 'wait' },
    AbortSignal.timeout(50),
  )
  await assert.rejects(running, { name: 'AbortError' })
})
